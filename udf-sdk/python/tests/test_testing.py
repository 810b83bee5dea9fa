"""The native harness: as in a job, but in this Python."""

import subprocess
import sys
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

import pytest
from wasmill import (
    AggregateFunction, DataTypes, FilterFunction, FlatMapFunction, KeyedProcessFunction, MapFunction, ReduceFunction, Row, Types,
    ValueStateDescriptor, udf,
)
from wasmill.testing import Harness


def half(n: int) -> float:
    return n / 2


def maybe(n: Optional[int], m: int) -> str:
    return f"{n} {m}"


def test_scalars():
    assert Harness(half).feed(1, None, 3) == [0.5, None, 1.5]
    assert Harness(maybe).feed((None, 1), (2, None)) == ["None 1", None]
    assert Harness(lambda a: a + 1, result="int8").feed(1) == [2]
    assert half(3) == 1.5 and udf(half)(3) == 1.5


def test_wrong_types_and_errors():
    with pytest.raises(TypeError, match="argument n: wants int64., got str 'x'"):
        Harness(half).feed("x")
    with pytest.raises(TypeError, match="bad: result: wants int64, got str 'text'"):
        Harness(udf(lambda n: "text", result_type="int64"), name="bad").feed(1)
    h = Harness(udf(lambda n: 1 // n, result_type="int64"), on_error="collect")
    assert h.feed(1, 0) == [1] and repr(h.errors).startswith("[RowFailure(row=1, ZeroDivisionError:")


class Out(NamedTuple):
    k: Optional[str]
    sum: int
    at: Optional[int]
    watermark: int


class Sum(KeyedProcessFunction):
    def open(self, runtime_context):
        self.sum = runtime_context.get_state(ValueStateDescriptor("sum", Types.INT()))
        self.step = int(runtime_context.get_job_parameter("step", "1"))
        self.names = runtime_context.get_resource("names").split()

    def process_element(self, value, ctx) -> Iterator[Out]:
        total = (self.sum.value() or 0) + value.n * self.step
        self.sum.update(total)
        yield Out(ctx.get_current_key(), total, ctx.timestamp(), ctx.timer_service().current_watermark())
        if value.n == 13:
            raise ValueError("unlucky")
        if value.n == 0:
            self.sum.clear()


def test_process_functions():
    h = Harness(Sum, key="k", parameters={"step": "2"}, resources={"names": b"a b"}, on_error="collect")
    h.watermark = 77
    rows = [{"k": "a", "n": 1}, {"k": None, "n": 5}, {"k": "a", "n": 13}, Row(k="a", n=2), {"k": None, "n": 0}]
    out = h.feed(*rows, timestamps=[10, 20, 30, 40, 50])
    assert [tuple(r) for r in out] == [("a", 2, 10, 77), (None, 10, 20, 77), ("a", 6, 40, 77), (None, 10, 50, 77)]
    assert [(e.row, e.message) for e in h.errors] == [(2, "unlucky")]
    assert h.state("sum") == {"a": 6}
    with pytest.raises(KeyError, match="there is no state 'gone'"):
        h.state("gone")
    with pytest.raises(RuntimeError, match="wants a keyed stream"):
        Harness(Sum, resources={"names": b""})
    with pytest.raises(KeyError, match="grants no resource 'names'"):
        Harness(Sum, key="k")


def test_keys_of_several_columns():
    class Keys(KeyedProcessFunction):
        def process_element(self, value, ctx):
            key = ctx.get_current_key()
            yield f"{key.a}-{key[1]}"

    assert Harness(Keys, key=["a", "b"], result="utf8").feed({"a": 1, "b": 2}) == ["1-2"]


def test_rows_in_and_out():
    class Double(MapFunction):
        result_type = "struct<n: int64>"

        def map(self, value):
            return {"n": value.n * 2}

    class Words(FlatMapFunction):
        def flat_map(self, value) -> Iterator[str]:
            return value.split()

    class Some(FilterFunction):
        def filter(self, value):
            return value

    assert Harness(Double).feed({"n": 2}) == [Row(n=4)]
    assert Harness(Double, arguments=[("row", "struct<n: int8>")]).feed((2,)) == [Row(n=4)]
    assert Harness(Words).feed("a b", "") == ["a", "b"]
    assert Harness(Some).feed([1], []) == [True, False]


def test_state_of_a_map_function_on_a_keyed_stream():
    class Numbered(MapFunction):
        result_type = "int64"

        def open(self, runtime_context):
            self.n = runtime_context.get_state(ValueStateDescriptor("n", Types.LONG()))

        def map(self, value):
            self.n.update((self.n.value() or 0) + 1)
            if value["fail"]:
                raise ValueError("after the write")
            return self.n.value()

    h = Harness(Numbered, key="k", on_error="collect")
    rows = [{"k": "a", "fail": False}, {"k": "b", "fail": False}, {"k": "a", "fail": True}, {"k": "a", "fail": False}]
    assert h.feed(*rows) == [1, 1, 2] and h.state("n") == {"a": 2, "b": 1}
    with pytest.raises(RuntimeError, match="wants a keyed stream"):
        Harness(Numbered)


def test_folding():
    class Largest(ReduceFunction):
        def reduce(self, value1, value2):
            return max(value1, value2)

    h = Harness(Largest, arguments=[("n", "int64")])
    assert h.feed(1, 3, 2) == [1, 3, 3]

    class Mean(AggregateFunction):
        def create_accumulator(self):
            return [0, 0]

        def accumulate(self, acc, value):
            acc[0] += value.n
            acc[1] += 1
            if value.n == 13:
                raise ValueError("unlucky")

        def retract(self, acc, value):
            acc[0] -= value.n
            acc[1] -= 1

        def merge(self, acc, others):
            for other in others:
                acc[0] += other[0]
                acc[1] += other[1]

        def get_value(self, acc):
            return acc.sum / acc.n if acc.n else None

        def get_result_type(self):
            return DataTypes.DOUBLE()

        def get_accumulator_type(self):
            return DataTypes.ROW([DataTypes.FIELD("sum", DataTypes.BIGINT()), DataTypes.FIELD("n", DataTypes.BIGINT())])

    h = Harness(Mean, key="k", on_error="collect")
    h.feed({"k": "a", "n": 1}, {"k": "b", "n": 5}, {"k": "a", "n": 13}, {"k": "a", "n": 2})
    assert h.results() == {"a": 1.5, "b": 5.0} and len(h.errors) == 1
    h.retract({"k": "a", "n": 2})
    h.merge("a", "b")
    assert h.results() == {"a": 3.0}
    assert Harness(Mean).results() == {None: None}


def test_an_aggregate_in_the_datastream_form():
    class Count(AggregateFunction):
        def create_accumulator(self) -> int:
            return 0

        def add(self, value, accumulator):
            return accumulator + 1

        def get_result(self, accumulator) -> int:
            return accumulator

        def merge(self, a, b):
            return a + b

    h = Harness(Count, key="k")
    h.feed({"k": 1}, {"k": 1}, {"k": 2})
    h.merge(1, 2)
    assert h.results() == {1: 3}


def test_what_is_no_udf():
    from wasmill.declare import DeclarationError

    with pytest.raises(DeclarationError, match="is no UDF"):
        Harness(3)
    with pytest.raises(ValueError, match='on_error is "raise" or "collect"'):
        Harness(half, on_error="ignore")


class Distinct(AggregateFunction):
    """Without a word on types, as PyFlink's examples are."""

    def create_accumulator(self):
        return (0, set())

    def add(self, value, accumulator):
        return accumulator[0] + value.km, accumulator[1] | {value.tail}

    def get_result(self, accumulator):
        return accumulator[0] / len(accumulator[1])

    def merge(self, a, b):
        return a[0] + b[0], a[1] | b[1]


def test_an_accumulator_without_a_type_may_be_any_object():
    h = Harness(Distinct, key="k", result="float64")
    h.feed(*[{"k": k, "tail": t, "km": km} for k, t, km in (("a", "x", 1.5), ("a", "y", 2), ("b", "x", 1))])
    assert h.state("accumulator") == {"a": (3.5, {"x", "y"}), "b": (1, {"x"})}
    h.merge("a", "b")
    assert h.results() == {"a": 2.25}


def test_an_accumulator_without_a_type_may_be_changed_in_place():
    class Texts(AggregateFunction):
        def create_accumulator(self) -> list:
            return []

        def accumulate(self, accumulator, text):
            accumulator.append(text)

        def get_value(self, accumulator) -> str:
            return "".join(accumulator)

        def merge(self, accumulator, accumulators):
            for other in accumulators:
                accumulator.extend(other)

    h = Harness(Texts, arguments=[("k", "utf8")])
    h.feed("a", "b")
    assert h.results() == {None: "ab"}


def test_a_row_may_be_annotated_where_the_codec_is_not():
    """As in the Python of a user, who has the package alone."""
    source = """
from wasmill import MapFunction, Row
from wasmill.testing import Harness
class M(MapFunction):
    def map(self, value: Row) -> int:
        return value.a
assert Harness(M).feed({"a": 1}) == [1] and type(Row(a=1)).__name__ == "Row"
"""
    src = Path(__file__).resolve().parent.parent / "src"
    done = subprocess.run([sys.executable, "-c", source], env={"PYTHONPATH": str(src)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
