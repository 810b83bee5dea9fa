"""The UDFs that are measured. All ways run this file: Wasmill's runner, the worker process, CPython in-process."""

from typing import Iterator

from wasmill import KeyedProcessFunction, Row, Types, ValueStateDescriptor


def add_one(i: int) -> int:
    """One more."""
    return i + 1


class KeyedAverage(KeyedProcessFunction):
    """The mean of a key's values so far."""

    def open(self, runtime_context):
        self.sum = runtime_context.get_state(ValueStateDescriptor("sum", Types.DOUBLE()))
        self.count = runtime_context.get_state(ValueStateDescriptor("count", Types.LONG()))

    def process_element(self, value: Row, ctx) -> Iterator[float]:
        total = (self.sum.value() or 0.0) + value[1]
        count = (self.count.value() or 0) + 1
        self.sum.update(total)
        self.count.update(count)
        yield total / count
