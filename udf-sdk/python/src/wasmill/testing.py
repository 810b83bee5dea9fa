"""Runs UDFs natively: feed rows, look at what comes out, at errors and at state. No WebAssembly, so breakpoints work.

    from wasmill.testing import Harness
    from legs import Inherited

    def test_a_late_aircraft():
        h = Harness(Inherited, key="tailnum")
        out = h.feed({"tailnum": "N1", "dep_delay": 20, "arr_delay": 30, …})
        assert out[0].inherited is False
        assert h.state("arrival_delay") == {"N1": 30}

Values are checked against the declared types as in a job, with the same messages.
"""

import pickle

from . import binding as b
from .convert import normalise
from .declare import DeclarationError, Declared, UserFunction, declare
from .notation import DataType, parse
from .rows import Row, restore

_ANY = DataType("any", True)


class RowFailure:
    """A row that raised: its index in the call of `feed`, and the exception."""

    def __init__(self, row, exception):
        self.row, self.exception = row, exception
        self.kind, self.message = type(exception).__name__, str(exception)

    def __repr__(self):
        return f"RowFailure(row={self.row}, {self.kind}: {self.message})"


class _State:
    def __init__(self, harness, name, data_type):
        self.harness, self.name, self.data_type, self.values = harness, name, data_type, {}

    def _key(self):
        if not self.harness.running:
            raise RuntimeError(
                f'state "{self.name}": a state belongs to a key, and can be used only while a row of a keyed stream is processed'
            )
        return self.harness.hashable_key

    def value(self):
        """The value of the current key, or None."""
        held = self.values.get(self._key())
        return None if held is None else normalise(self.data_type, held, f'state "{self.name}"')

    def update(self, value):
        """Sets the value of the current key."""
        key = self._key()
        made = None if value is None else normalise(self.data_type, value, f'state "{self.name}"')
        self.harness.undo.append((self.values, key, self.values.get(key)))
        self.values[key] = made

    def clear(self):
        """Removes the value of the current key."""
        self.update(None)


class Harness:
    """A function in use, with the state of all keys.

    `function` is what the module holds: a function, a class, or what @udf made. `arguments` are (name, type) of the columns; without
    them values are passed as they are, a dict as a Row. `key` names the fields of the row that are its key. `result` is the type that the job wants.
    `environment` are the further arguments of RuntimeContext.
    With `on_error="collect"` a row that raises goes into `errors` and leaves no trace, as in a job; by default the exception is raised.

    `watermark` and `processing_time` (milliseconds) can be set at any time.
    """

    def __init__(
        self, function, arguments=None, key=(), result=None, parameters=None, resources=None, on_error="raise", name=None, environment=None
    ):
        if on_error not in ("raise", "collect"):
            raise ValueError(f'on_error is "raise" or "collect", not {on_error!r}')
        declared = function if isinstance(function, Declared) else declare(name or _name_of(function), function)
        if declared is None and callable(function):
            declared = declare(name or _name_of(function), UserFunction(function))
        if declared is None:
            raise DeclarationError(f"{function!r} is no UDF: decorate it with @udf, annotate it, or derive from a function class")
        self.kind, self.on_error, self.errors = declared.kind, on_error, []
        self.watermark, self.processing_time = -(2**63), 0
        self.running, self.undo, self.hashable_key = False, [], None
        self._key_names = [key] if isinstance(key, str) else list(key)
        self._key, self._timestamp, self._states = None, None, {}
        if arguments is not None:
            given = [(n, parse(t)) for n, t in arguments]
        else:  # as if the columns could hold nulls: what the function makes of them can be tested too
            given = [(n, (t or _ANY).as_nullable()) for n, t in declared.arguments]
        keys = [(n, _ANY) for n in self._key_names]
        environment = {"job": "test", "operator": "test", **(environment or {}), "resources": resources or {}}
        self._bound = b.bind(declared, given, keys, result, None, parameters, environment, self._make_state, _Clock(self))
        self._where = f"{declared.name}: result"

    def _make_state(self, name, data_type, by_call):
        self._states[name] = _State(self, name, data_type)
        return self._states[name]

    # ---- rows
    def feed(self, *rows, timestamps=None):
        """Processes rows and returns what came out: a value for each row, or all rows that were yielded.

        A row of a function with several arguments is a tuple. An aggregate accumulates and returns nothing: see `results`.
        """
        out = []
        for index, row in enumerate(rows):
            self._enter(row, timestamps[index] if timestamps else None)
            self._guarded(index, out, lambda row=row: self._one(row))
        return out

    def retract(self, *rows):
        """Takes rows back from an aggregate."""
        for index, row in enumerate(rows):
            self._enter(row, None)
            self._guarded(index, [], lambda row=row: self._fold(self._bound.calls[1], self._arguments(row)))

    def merge(self, into, other):
        """Merges the accumulator of one key into that of another, and forgets the first."""
        state = self._states["accumulator"]
        self._key = self.hashable_key = into
        held = state.values.pop(other, None)
        if held is not None:
            self._guarded(0, [], lambda: self._fold(self._bound.calls[2], [held]))

    def results(self):
        """The result of each key of an aggregate; the key of an aggregate without one is None."""
        held = dict(self._states["accumulator"].values) or {None: None}
        return {key: self._result_of(value) for key, value in held.items()}

    def state(self, name):
        """The values of a state by key. The key of several columns is a tuple."""
        if name not in self._states:
            raise KeyError(f"there is no state {name!r}: there are {sorted(self._states)}")
        shown = pickle.loads if self._bound.pickled and name == "accumulator" else lambda value: value
        return {key: shown(value) for key, value in self._states[name].values.items() if value is not None}

    # ---- inside
    def _enter(self, row, timestamp):
        self._timestamp, self.undo = timestamp, []
        values = tuple(row[n] if isinstance(row, (dict, Row)) else getattr(row, n) for n in self._key_names)
        self.hashable_key = values[0] if len(values) == 1 else values or None
        self._key = self._key_of(values)

    def _key_of(self, values):
        """The key as `get_current_key` tells it."""
        if len(values) > 1:
            return restore({n: i for i, n in enumerate(self._key_names)}, list(values))
        return values[0] if values else None

    def _guarded(self, index, out, call):
        before = len(out)
        self.running = True
        try:
            for value in call():
                out.append(value)
        except BaseException as error:
            for values, key, old in reversed(self.undo):
                values[key] = old
            if self.on_error == "raise":
                raise
            del out[before:]
            self.errors.append(RowFailure(index, error))
        finally:
            self.running = False

    def _arguments(self, row):
        types, names = self._bound.arguments, self._bound.argument_names
        values = list(row) if isinstance(row, tuple) and not hasattr(row, "_fields") and len(types) != 1 else [row]
        if len(values) != len(types):
            raise TypeError(f"{self._bound.name} takes {len(types)} arguments, the row has {len(values)}")
        made = [normalise(t, v, f"argument {n}") for t, v, n in zip(types, values, names)]
        return [Row(**v) if isinstance(v, dict) and t.name == "any" else v for v, t in zip(made, types)]

    def _one(self, row):
        bound, arguments = self._bound, self._arguments(row)
        if self.kind == "aggregate":
            return self._fold(bound.calls[0], arguments)
        if self.kind == "reduce":
            return self._reduce(arguments[0])
        if any(skip and v is None for skip, v in zip(self._strict(), arguments)):
            return [None]
        if self.kind == "process":
            arguments.append(bound.context)
        result = bound.calls[0](*arguments)
        if self.kind in ("table", "process"):
            return self._rows(result)
        return [bool(result) if self.kind == "filter" else normalise(bound.result, result, self._where)]

    def _strict(self):
        return self._bound.null_skips

    def _rows(self, result):
        if result is None:
            return
        if isinstance(result, (str, bytes, dict, Row)):
            raise TypeError(f"{self._bound.name}: returned one {type(result).__name__}: yield rows, or return a list of them")
        for row in result:
            yield normalise(self._bound.result, row, self._where)

    def _reduce(self, value):
        state = self._states["reduced"]
        before = state.value()
        made = value if before is None else self._bound.calls[0](before, value)
        state.update(made)
        return [normalise(self._bound.result, made, self._where)]

    def _result_of(self, held):
        create, get_value = self._bound.calls[3:]
        return normalise(self._bound.result, get_value(self._accumulator(held, create)), self._where)

    def _accumulator(self, held, create):
        data_type = self._states["accumulator"].data_type
        return normalise(data_type, create() if held is None else held, 'state "accumulator"')

    def _fold(self, call, arguments):
        state = self._states["accumulator"]
        held = self._accumulator(state.values.get(self.hashable_key), self._bound.calls[3])
        result = call(held, *arguments)
        state.update(held if result is None else result)
        return []


class _Clock:
    def __init__(self, harness):
        self.harness = harness

    def timestamp(self):
        return self.harness._timestamp

    def current_key(self):
        return self.harness._key

    def watermark(self):
        return self.harness.watermark

    def processing_time(self):
        return self.harness.processing_time


def _name_of(function):
    target = function.target if isinstance(function, UserFunction) else function
    return getattr(target, "__name__", type(target).__name__)
