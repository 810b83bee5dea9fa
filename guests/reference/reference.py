"""A function of every kind and for every type, and some that fail. The tests of the host and of the SDK run them."""

import datetime
import decimal
import logging
import random
import time
from typing import Dict, Iterator, List, NamedTuple, Optional

from wasmill import (
    AggregateFunction, DataTypes, FilterFunction, FlatMapFunction, KeyedProcessFunction, MapFunction, ReduceFunction, Row, ScalarFunction,
    TableFunction, Types, ValueStateDescriptor, udf, udtf,
)

log = logging.getLogger("reference")


# ---- scalars: one of each type gives back what it gets

@udf(result_type="int64?")
def same_int64(value):
    """Gives back an integer."""
    return value


def length(text: str) -> int:
    """The characters of a text; null in, null out."""
    return len(text)


def or_else(value: Optional[int], other: int) -> int:
    """The value, or another if it is null."""
    return other if value is None else value


add = udf(lambda i, j: i + j, result_type=DataTypes.BIGINT(), name="add")


def decimal_half(value: decimal.Decimal) -> decimal.Decimal:
    """Half of it, exactly."""
    return value / 2


def next_day(day: datetime.date) -> datetime.date:
    """The day after."""
    return day + datetime.timedelta(days=1)


def later(at: datetime.datetime, seconds: float) -> datetime.datetime:
    """A timestamp moved."""
    return at + datetime.timedelta(seconds=seconds)


@udf(result_type="timestamp(us,Europe/Berlin)?")
def in_berlin(at):
    """A timestamp with a zone, in another one."""
    import zoneinfo

    return at.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))


@udf(result_type="utf8")
def shown(value):
    """How Python shows a value of any type."""
    return repr(value)


class Point(NamedTuple):
    """Two numbers and what goes with them."""

    x: float
    y: float
    tags: List[str]
    counts: Dict[str, int]
    note: Optional[str]


def make_point(x: float, y: float) -> Point:
    """A struct with a list and a map."""
    return Point(x, y, ["a", "b"], {"n": 1}, None)


class Concat(ScalarFunction):
    """Two texts, with a separator from the job's settings."""

    def open(self, function_context):
        self.separator = function_context.get_job_parameter("separator", "-")

    def eval(self, first: str, second: str) -> str:
        return first + self.separator + second


class FromResource(ScalarFunction):
    """A line of a file that the job grants."""

    def open(self, function_context):
        self.lines = function_context.get_resource("lines.txt").decode().splitlines()

    def eval(self, n: int) -> str:
        return self.lines[n]


# ---- rows

class Double(MapFunction):
    """Twice the number."""

    result_type = Types.ROW_NAMED(["k", "n"], [Types.STRING(), Types.LONG()])

    def map(self, value):
        return Row(k=value.k, n=value.n * 2)


class Positive(FilterFunction):
    """Keeps rows whose number is above zero."""

    def filter(self, value):
        return value.n > 0


class Words(FlatMapFunction):
    """The words of a text."""

    result_type = Types.STRING()

    def flat_map(self, value):
        yield from value.split()


class Split(TableFunction):
    """The words of a text, with their lengths."""

    def eval(self, text: str):
        for word in text.split():
            yield word, len(word)


split = udtf(Split(), result_types=[DataTypes.STRING(), DataTypes.INT()])
del Split


@udf(result_type="int64")
def count_to(n: int) -> Iterator[int]:
    """0, 1, … n - 1."""
    for i in range(n):
        yield i


class Largest(ReduceFunction):
    """The row with the largest number."""

    def reduce(self, value1, value2):
        return value1 if value1.n >= value2.n else value2


class Mean(AggregateFunction):
    """The weighted mean, as PyFlink's documentation has it."""

    def create_accumulator(self):
        return Row(0.0, 0.0)

    def get_value(self, accumulator):
        return None if accumulator[1] == 0 else accumulator[0] / accumulator[1]

    def accumulate(self, accumulator, value, weight):
        accumulator[0] += value * weight
        accumulator[1] += weight

    def retract(self, accumulator, value, weight):
        accumulator[0] -= value * weight
        accumulator[1] -= weight

    def merge(self, accumulator, accumulators):
        for other in accumulators:
            accumulator[0] += other[0]
            accumulator[1] += other[1]

    def get_result_type(self):
        return DataTypes.DOUBLE()

    def get_accumulator_type(self):
        return DataTypes.ROW([DataTypes.FIELD("sum", DataTypes.DOUBLE()), DataTypes.FIELD("weight", DataTypes.DOUBLE())])


class Running(KeyedProcessFunction):
    """A count and a sum for each key, and a text that grows."""

    result_type = "struct<key: utf8?, count: int64, sum: int64, text: utf8, at: int64?>"

    def open(self, runtime_context):
        self.totals = runtime_context.get_state(
            ValueStateDescriptor("totals", Types.ROW_NAMED(["count", "sum"], [Types.LONG(), Types.LONG()]))
        )
        self.text = runtime_context.get_state(ValueStateDescriptor("text", Types.STRING()))

    def process_element(self, value, ctx):
        totals = self.totals.value() or Row(count=0, sum=0)
        text = (self.text.value() or "") + value.letter
        self.totals.update((totals.count + 1, totals.sum + value.n))
        self.text.update(text)
        if value.letter == "!":
            raise ValueError("no shouting")
        if value.letter == "?":
            self.totals.clear()
            self.text.clear()
        yield Row(key=ctx.get_current_key(), count=totals.count + 1, sum=totals.sum + value.n, text=text, at=ctx.timestamp())


# ---- what can go wrong

def divide(a: int, b: int) -> int:
    """Fails where b is 0."""
    return a // b


def wrong_type(n: int) -> int:
    """Says int and gives a text."""
    return "text"


def too_big(n: int) -> int:
    """Leaves int64."""
    return n * 2**62


def recurses(n: int) -> int:
    """Never ends, until Python ends it."""
    return recurses(n + 1)


def exits(n: int) -> int:
    """Asks to end the program."""
    raise SystemExit(n)


def loops(n: int) -> int:
    """Never ends."""
    while True:
        n += 1


def hoards(n: int) -> int:
    """Takes memory until there is none."""
    held = []
    while True:
        held.append(bytearray(1 << 20))


@udf(result_type="int64")
def endless(n: int) -> Iterator[int]:
    """Yields without end."""
    while True:
        yield n


# ---- what the host gives

def says(text: str) -> str:
    """Prints and logs."""
    print("printed", text)
    log.debug("quiet %s", text)
    log.warning("logged %s", text)
    return text


@udf(deterministic=False)
def dice(n: int) -> int:
    """A random number below n; the bundle's seed decides."""
    return random.randrange(n)


def clock(n: int) -> float:
    """The time, as the host tells it."""
    return time.time()
