"""A function as one place in a job uses it: types settled, class made, `open` called, states known.

The same code serves the runner, where the C codec calls what comes out of it, and the native harness of `wasmill.testing`.
"""

import pickle

from . import functions as f
from .drive import drive_of
from .notation import FLOATS, INTEGERS, DataType, parse

SCALAR, FILTER, TABLE, PROCESS, REDUCE, AGGREGATE = range(6)
_MODES = {"scalar": SCALAR, "map": SCALAR, "filter": FILTER, "table": TABLE, "process": PROCESS, "reduce": REDUCE, "aggregate": AGGREGATE}


# Functions of streams, which have state when the stream has a key; those of tables have none.
_STATEFUL = ("process_element", "map", "flat_map", "filter")


# The accumulator of an aggregate that declares no type of its own.
_PICKLED = DataType("binary")


class BindingError(TypeError):
    """A function cannot be used the way the job wants it. The message is for the user."""


class State:
    """A state that a function declared: its type is not nullable."""

    def __init__(self, name, data_type, by_call, handle):
        self.name, self.data_type, self.by_call, self.handle = name, data_type, by_call, handle


class Bound:
    """What `bind` makes. `calls` are call, retract, merge, create and get_value; those that the kind lacks are None.
    `drive` is the loop that may call it."""

    def __init__(self, declared, arguments, key):
        self.name, self.kind, self.mode = declared.name, declared.kind, _MODES[declared.kind]
        self.argument_names = [n for n, _ in arguments]
        self.arguments = [t for _, t in arguments]
        self.null_skips = [False] * len(arguments)
        self.keys = [t for _, t in key]
        self.key_row = DataType("struct", fields=key) if len(key) > 1 else None
        self.result, self.states, self.context = None, [], None
        self.calls, self.drive = (None,) * 5, None
        self.pickled = declared.kind == "aggregate" and declared.accumulator is None


def bind(declared, arguments, key=(), result=None, access=None, parameters=None, environment=None, make_state=None, clock=None):
    """Settles everything. `arguments` and `key` are (name, DataType); `make_state(name, type, by_call)` makes what holds a state;
    `environment` are further arguments of RuntimeContext; `clock` tells timestamp, current_key, watermark and processing_time."""
    bound = Bound(declared, list(arguments), list(key))
    _check_arguments(declared, bound)
    target = declared.instance()
    _open(declared, bound, target, dict(access or {}), parameters, environment or {}, make_state)
    bound.calls = _calls(declared, target)
    bound.drive = drive_of(declared.kind, bound.calls[0], len(bound.arguments))
    bound.result = _result(declared, bound, parse(result) if result is not None else None)
    if declared.kind == "process":
        bound.context = f.Context(clock)
    if declared.kind == "reduce":
        _add_state(bound, "reduced", bound.arguments[0].not_null(), dict(access or {}), make_state)
    if declared.kind == "aggregate":
        _add_state(bound, "accumulator", _accumulator_type(declared), dict(access or {}), make_state)
    return bound


# ---- arguments

def _check_arguments(declared, bound):
    wanted, got = len(declared.arguments), len(bound.arguments)
    if got < wanted or (got > wanted and not declared.varargs):
        names = ", ".join(n for n, _ in declared.arguments)
        hint = f"; {declared.defaults[0]} has a default, but a job gives every argument" if got < wanted and declared.defaults else ""
        raise BindingError(f"{declared.name} takes {wanted} argument{'s' if wanted != 1 else ''} ({names}), the job gives {got}{hint}")
    for i, (name, known) in enumerate(declared.arguments[:got]):
        column = bound.arguments[i]
        if known is not None and not _suits(known, column) and not (declared.open_types[i] and known.name == column.name):
            raise BindingError(
                f"{declared.name}: argument {i + 1} ({name}) wants {known}, the job gives {bound.argument_names[i]}: {column}"
            )
        bound.null_skips[i] = declared.required[i] and column.nullable
    for data_type in bound.arguments + bound.keys:
        _check_map_keys(declared, data_type)


def _suits(known, column):
    """May a column be given where a type was declared? Python has one int, one float, one datetime."""
    a, b = known.name, column.name
    if b == "any":
        return True
    if a in INTEGERS:
        return b in INTEGERS
    if a in FLOATS:
        return b in FLOATS or b in INTEGERS
    if a != b:
        return False
    if a == "timestamp":
        return len(known.params) == len(column.params)
    if a == "struct":
        return known.names == column.names and all(_suits(x, y) for (_, x), (_, y) in zip(known.fields, column.fields))
    return all(_suits(x, y) for (_, x), (_, y) in zip(known.fields, column.fields))


def _check_map_keys(declared, data_type):
    if data_type.name == "map" and data_type.fields[0][1].name in ("list", "map"):
        raise BindingError(f"{declared.name}: {data_type}: a dict cannot have a {data_type.fields[0][1].name} as its key")
    for _, child in data_type.fields:
        _check_map_keys(declared, child)


# ---- the function

def _open(declared, bound, target, access, parameters, environment, make_state):
    opener = getattr(target, "open", None)
    if not isinstance(target, f.Function) or opener is None:
        return

    def state(name, data_type):
        return _add_state(bound, name, data_type.not_null(), access, make_state)

    keyed = declared.method in _STATEFUL and bound.keys
    opener(f.RuntimeContext(declared.name, parameters=parameters, make_state=state if keyed else None, **environment))


def _add_state(bound, name, data_type, access, make_state):
    for known in bound.states:
        if known.name == name:
            if known.data_type != data_type:
                raise BindingError(f"{bound.name}: state {name!r} is declared as {known.data_type} and as {data_type}")
            return known.handle
    by_call = access.get(name, "column") == "call"
    handle = make_state(name, data_type, by_call)
    bound.states.append(State(name, data_type, by_call, handle))
    return handle


def _accumulator_type(declared):
    return _PICKLED if declared.accumulator is None else declared.accumulator.not_null()


def _calls(declared, target):
    if declared.kind != "aggregate":
        return (getattr(target, declared.method) if declared.method else target, None, None, None, None)
    create = getattr(target, "create_accumulator", None)
    if declared.method == "add":
        add, merge = target.add, getattr(target, "merge", None)
        calls = (lambda held, value: add(value, held), None, merge, create, getattr(target, "get_result", None))
    else:
        merge = getattr(target, "merge", None)
        several = None if merge is None else (lambda held, other: merge(held, [other]))
        calls = (target.accumulate, getattr(target, "retract", None), several, create, getattr(target, "get_value", None))
    for need, call in (("create_accumulator()", calls[3]), ("get_value()", calls[4])):
        if call is None:
            raise BindingError(f"{declared.name}: the class lacks the method {need}")
    lacks = [_lacking(declared.name, name) if call is None else call for name, call in (("retract", calls[1]), ("merge", calls[2]))]
    calls = (calls[0], lacks[0], lacks[1], calls[3], calls[4])
    return calls if declared.accumulator is not None else _with_pickles(*calls)


def _with_pickles(accumulate, retract, merge, create, get_value):
    """The calls of an aggregate whose accumulator may be any object, as PyFlink's: the host keeps its pickle.

    A type found by looking at what create_accumulator() returns would not do: `(0, 0)` says nothing of the floats that are added later.
    """

    def kept(call):
        def run(held, *values):
            before = pickle.loads(held)
            after = call(before, *values)
            return pickle.dumps(before if after is None else after, pickle.HIGHEST_PROTOCOL)

        return run

    merged = kept(merge)
    return (
        kept(accumulate), kept(retract), lambda held, other: merged(held, pickle.loads(other)),
        lambda: pickle.dumps(create(), pickle.HIGHEST_PROTOCOL), lambda held: get_value(pickle.loads(held)),
    )


def _lacking(name, method):
    def fail(*_):
        raise NotImplementedError(f"{name}: the job needs {method}(), which the class lacks")

    return fail


# ---- the result

def _result(declared, bound, wanted):
    found = wanted if wanted is not None else declared.result
    if declared.kind == "filter":
        found = DataType("bool")
    elif declared.kind == "reduce":
        found = bound.arguments[0]
    if found is None and any(t.name == "any" for t in bound.arguments):
        found = DataType("any", True)  # the native harness, told nothing
    if found is None:
        raise BindingError(
            f"{declared.name}: the type of its result is unknown: annotate it, say @udf(result_type=...), or give the job a `result`"
        )
    if wanted is None and any(bound.null_skips):
        found = found.as_nullable()  # null in, null out
    _check_map_keys(declared, found)
    return found


# ---- describing

class _Unknown(Exception):
    """What a job would say is asked for while nobody runs the job."""


class _DryContext(f.RuntimeContext):
    def get_resource(self, name):
        raise _Unknown(name)

    def get_job_parameter(self, key, default_value=None):
        return default_value


def states_without_running(declared):
    """(name, DataType) of the states, as far as they can be known without a job: `open` is called with a context that only notes them.

    What `open` raises ends the search; the job that runs it will tell.
    """
    found = []
    if declared.kind == "aggregate":
        return [("accumulator", _accumulator_type(declared))]
    if declared.kind == "reduce" and declared.arguments[0][1] is not None:
        return [("reduced", declared.arguments[0][1].not_null())]
    if declared.method in _STATEFUL:
        try:
            target = declared.instance()
            target.open(_DryContext(declared.name, make_state=lambda name, t: found.append((name, t.not_null()))))
        except BaseException:  # even what would end a program: nobody runs the job yet
            return found
    return found
