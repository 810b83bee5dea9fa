"""The functions of guests/bench/bench.py, called by CPython on Arrow batches, with plain objects as state.

What the worker process and CPython in-process have in common. It is written to be fast: a slow competitor would flatter us.
"""

import collections
import pathlib
import sys

import pyarrow as pa
import pyarrow.compute as pc

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "udf-sdk" / "python" / "src"), str(ROOT / "guests" / "bench")]

import bench  # noqa: E402  (found on the path above, as is the SDK that it imports)


class ValueState:
    """A state that is a dict from key to value."""

    __slots__ = ("_context", "_values")

    def __init__(self, context):
        self._context, self._values = context, {}

    def value(self):
        return self._values.get(self._context.key)

    def update(self, value):
        self._values[self._context.key] = value

    def clear(self):
        self._values.pop(self._context.key, None)


class Context:
    """What `open` and `process_element` get."""

    __slots__ = ("key",)

    def get_state(self, descriptor):
        return ValueState(self)

    def get_current_key(self):
        return self.key


def _output(result):
    """Makes batches of one column without nulls."""
    schema = pa.schema([pa.field("result", result, nullable=False)])

    def batch(values):
        return pa.RecordBatch.from_arrays([pa.array(values, result)], schema=schema)

    return batch


def scalar(function, result, *constants):
    """A function of the columns' values and of constants, row by row."""
    output = _output(result)

    def run(batch):
        columns = [argument.to_pylist() for argument in batch.columns]
        columns += [[constant] * batch.num_rows for constant in constants]
        return output(list(map(function, *columns)))

    return run


def vectorized(function, result):
    """A function of Arrow columns."""
    schema = pa.schema([pa.field("result", result, nullable=False)])
    return lambda batch: pa.RecordBatch.from_arrays([function(*batch.columns)], schema=schema)


def revenue(price, count, name):
    """What the Rust function of this name computes, by Arrow's kernels."""
    return pc.if_else(pc.starts_with(name, "a"), pc.multiply(price, pc.cast(count, pa.float64())), 0.0)


def process(function_class, result):
    """A process function with state; the key is the first column. Rows are named tuples: the fastest that has fields by name."""
    output, function, context, row_class = _output(result), function_class(), Context(), None
    function.open(context)
    process_element = function.process_element

    def run(batch):
        nonlocal row_class
        row_class = row_class or collections.namedtuple("Row", batch.schema.names)
        out = []
        for row in map(row_class._make, zip(*[argument.to_pylist() for argument in batch.columns])):
            context.key = row[0]
            out.extend(process_element(row, context))
        return output(out)

    return run


class Accumulator:
    """What an aggregate function can change in place."""

    __slots__ = ("count", "sum", "max")

    def __init__(self, values):
        self.count, self.sum, self.max = values


WINDOW_MS = 10_000


def window(function_class):
    """An aggregate function over columns key, value, at in tumbling windows. Times ascend: a window fires when a batch ends after it."""
    function = function_class()
    types = [("key", pa.int64()), ("window_start", pa.int64()), ("count", pa.int64()), ("sum", pa.float64()), ("max", pa.float64())]
    schema = pa.schema([pa.field(name, data_type, nullable=False) for name, data_type in types])
    panes, accumulate = {}, function.accumulate

    def fire(before):
        out = []
        for start in sorted(start for start in panes if start + WINDOW_MS <= before):
            for key, accumulator in panes.pop(start).items():
                result = function.get_value(accumulator)
                out.append((key, start, result.count, result.sum, result.max))
        columns = zip(*out) if out else [[]] * len(types)
        return pa.RecordBatch.from_arrays([pa.array(column, field.type) for column, field in zip(columns, schema)], schema=schema)

    def run(batch):
        keys, values, times = batch.columns
        times = times.cast(pa.int64()).to_pylist()
        for key, value, at in zip(keys.to_pylist(), values.to_pylist(), times):
            start = at - at % WINDOW_MS
            pane = panes.get(start)
            if pane is None:
                pane = panes[start] = {}
            accumulator = pane.get(key)
            if accumulator is None:
                accumulator = pane[key] = Accumulator(function.create_accumulator())
            accumulate(accumulator, value)
        return fire(times[-1] + 1)

    # No rows follow: what is still open fires, as the job's does.
    run.end = lambda: fire(float("inf"))
    return run


FUNCTIONS = {
    "one_more": lambda: scalar(bench.one_more, pa.int64()),
    "work": lambda: scalar(bench.work, pa.int64(), 64),
    "revenue": lambda: vectorized(revenue, pa.float64()),
    "name_of": lambda: scalar(bench.name_of, pa.string()),
    "KeyedAverage": lambda: process(bench.KeyedAverage, pa.float64()),
    "OneMore": lambda: process(bench.OneMore, pa.int64()),
    "Summarise": lambda: window(bench.Summarise),
}


def call(name):
    """A new instance of a function: batch in, batch out."""
    return FUNCTIONS[name]()
