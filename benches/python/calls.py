"""The functions of udfs.py, called by CPython on Arrow batches, with plain objects as state.

What the worker process and CPython in-process have in common. It is written to be fast: a slow competitor would flatter us.
"""

import pathlib
import sys

import pyarrow as pa

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "udf-sdk" / "python" / "src"))

import udfs  # noqa: E402  (it imports the SDK from the path above)


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


def scalar(function, result):
    """A function of the columns' values, row by row."""
    output = _output(result)

    def run(batch):
        return output(list(map(function, *[argument.to_pylist() for argument in batch.columns])))

    return run


def process(function_class, result):
    """A process function with state; the key is the first column."""
    output, function, context = _output(result), function_class(), Context()
    function.open(context)
    process_element = function.process_element

    def run(batch):
        out = []
        for row in zip(*[argument.to_pylist() for argument in batch.columns]):
            context.key = row[0]
            out.extend(process_element(row, context))
        return output(out)

    return run


FUNCTIONS = {
    "add_one": lambda: scalar(udfs.add_one, pa.int64()),
    "KeyedAverage": lambda: process(udfs.KeyedAverage, pa.float64()),
}


def call(name):
    """A new instance of a function: batch in, batch out."""
    return FUNCTIONS[name]()
