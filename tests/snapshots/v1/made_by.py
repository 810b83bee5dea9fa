"""The functions of the job whose checkpoint this folder holds."""

from typing import NamedTuple

from wasmill import AggregateFunction, KeyedProcessFunction, Row, Types, ValueStateDescriptor


def twice(visits: int) -> int:
    """Has no state."""
    return 2 * visits


class Visits(KeyedProcessFunction):
    """Two states of a key: how often and when it came last, and the last two words. A row with "!" clears both. Slow on purpose."""

    result_type = "struct<who: utf8, visits: int64>"

    def open(self, runtime_context):
        last = Types.ROW_NAMED(["visits", "at"], [Types.LONG(), Types.LONG()])
        self.last = runtime_context.get_state(ValueStateDescriptor("last", last))
        self.words = runtime_context.get_state(ValueStateDescriptor("words", Types.LIST(Types.STRING())))

    def process_element(self, value, ctx):
        if value.n >= 40:
            for _ in range(300_000):
                pass
        if value.word == "!":
            self.last.clear()
            self.words.clear()
            return
        last = self.last.value()
        visits = last.visits + 1 if last else 1
        self.last.update(Row(visits=visits, at=value.at))
        self.words.update(((self.words.value() or []) + [value.word])[-2:])
        yield Row(who=ctx.get_current_key(), visits=visits)


class Sum(NamedTuple):
    """Of numbers."""

    count: int
    sum: int


class Total(AggregateFunction):
    """Count and sum."""

    def create_accumulator(self) -> Sum:
        return Sum(0, 0)

    def accumulate(self, accumulator, value: int):
        accumulator.count += 1
        accumulator.sum += value

    def get_value(self, accumulator) -> Sum:
        return accumulator
