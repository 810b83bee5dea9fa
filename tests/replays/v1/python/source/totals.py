import random
from typing import Iterator, NamedTuple
from wasmill import KeyedProcessFunction, Types, ValueStateDescriptor


class Total(NamedTuple):
    item: str
    sum: int


class Totals(KeyedProcessFunction):
    def open(self, runtime_context):
        self.sum = runtime_context.get_state(ValueStateDescriptor("sum", Types.LONG()))

    def process_element(self, value, ctx) -> Iterator[Total]:
        sum = (self.sum.value() or 0) + value.price * 100 // value.pieces
        self.sum.update(sum)
        yield Total(value.item, sum)
