"""The UDFs in Python that are measured. All ways run this file: Wasmill's runner, the worker process, CPython in-process.

    wasmill udf bench guests/bench/bench.py one_more
"""

import json
from typing import Iterator, NamedTuple

from wasmill import AggregateFunction, KeyedProcessFunction, ProcessFunction, Row, Types, ValueStateDescriptor


def one_more(i: int) -> int:
    """The least that a function can do."""
    return i + 1


def name_of(document: str) -> str:
    """A field of a JSON document, in capitals."""
    return json.loads(document)["name"].upper()


def work(x: int, rounds: int) -> int:
    """Rounds of SplitMix64: what the Rust function of this name does."""
    for _ in range(rounds):
        x = (x + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        x ^= x >> 31
    return x - (1 << 64) if x >> 63 else x


class KeyedAverage(KeyedProcessFunction):
    """The mean of a key's values so far: two states."""

    def open(self, runtime_context):
        self.sum = runtime_context.get_state(ValueStateDescriptor("sum", Types.DOUBLE()))
        self.count = runtime_context.get_state(ValueStateDescriptor("count", Types.LONG()))

    def process_element(self, value: Row, ctx) -> Iterator[float]:
        total = (self.sum.value() or 0.0) + value[1]
        count = (self.count.value() or 0) + 1
        self.sum.update(total)
        self.count.update(count)
        yield total / count


class OneMore(ProcessFunction):
    """A row out for each row in."""

    def process_element(self, value: Row, ctx) -> Iterator[int]:
        yield value.i + 1


class Summary(NamedTuple):
    """Of values."""

    count: int
    sum: float
    max: float


class Summarise(AggregateFunction):
    """Count, sum and maximum; the accumulator is changed in place."""

    def create_accumulator(self) -> Summary:
        return Summary(0, 0.0, float("-inf"))

    def accumulate(self, accumulator, value: float):
        accumulator.count += 1
        accumulator.sum += value
        if value > accumulator.max:
            accumulator.max = value

    def merge(self, accumulator, accumulators):
        for other in accumulators:
            accumulator.count += other.count
            accumulator.sum += other.sum
            accumulator.max = max(accumulator.max, other.max)

    def get_value(self, accumulator) -> Summary:
        return accumulator
