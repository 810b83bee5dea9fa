"""The runner: one component that serves any UDF written in Python. componentize-py makes it of this module."""

import datetime
import decimal
import gc
import types

import _wasmill_codec as codec
import wasmill_files
import wasmill_json
import wasmill_output
import wasmill_preload  # noqa: F401  only what is imported now exists at run time
import wasmill_problems
import wasmill_snapshot
import wasmill_sources
import wasmill_zones
from componentize_py_types import Err
from wasmill import binding as bindings
from wasmill import declare, notation
from wit_world import exports
from wit_world.exports import control

_KINDS = {kind: getattr(control.Kind, kind.upper()) for kind in declare.KINDS}


class _Program:
    """What `load-source` leaves behind."""

    sources = None
    functions = {}
    skipped = {}
    setup_done = False


def _problem(error):
    """The Err for an exception. Our own refusals carry their message already; their traceback helps nobody."""
    paths = _Program.sources.paths() if _Program.sources else set()
    try:
        if isinstance(error, (bindings.BindingError, declare.DeclarationError, notation.TypeNotationError)):
            return Err(control.Problem(wasmill_problems.refusal_of(error, _Program.sources.program, paths), ""))
        return Err(control.Problem(wasmill_problems.message_of(error, paths), wasmill_problems.traceback_text(error)))
    except BaseException as second:
        return Err(control.Problem(f"{type(error).__name__}: (and its text could not be made: {type(second).__name__})", ""))


def _refuse(message):
    return Err(control.Problem(message, ""))


def _described(declared):
    states = [
        control.StateDeclaration(name, str(data_type), control.Access.COLUMN)
        for name, data_type in bindings.states_without_running(declared)
    ]
    arguments = [
        control.Field(name, "any" if data_type is None or is_open else str(data_type))
        for (name, data_type), is_open in zip(declared.arguments, declared.open_types)
    ]
    return control.Function(
        declared.name, _KINDS[declared.kind], arguments,
        None if declared.result is None else str(declared.result), states, declared.deterministic, declared.documentation,
    )


def _told_of_skipped():
    """A line for each plain function that somebody may have meant for a UDF."""
    for name, reason in _Program.skipped.items():
        function = getattr(_Program.module, name)
        if not declare.returns_nothing(function):
            code = function.__code__
            yield f"{code.co_filename}:{code.co_firstlineno}: {_no_function(name, reason)}, or begin its name with _ if it is a helper"


def _no_function(name, reason):
    return f"{name} is no function that a job can use: {reason.removeprefix(name + ': ')}: correct that, or say @udf(input_types=..., result_type=...)"


def _find(name):
    found = _Program.functions.get(name)
    if found is not None:
        return found
    if name in _Program.skipped:
        raise bindings.BindingError(_no_function(name, _Program.skipped[name]))
    have = ", ".join(_Program.functions) or "none"
    raise bindings.BindingError(f"there is no function {name!r} (there are: {have}): it must be public and decorated, annotated or derived")


def _fields(fields):
    return [(f.name, notation.parse(f.data_type)) for f in fields]


def _load(setup, bound_to):
    declared = _find(bound_to.function)
    index = codec.begin(_qualified(declared.name))
    environment = {
        "job": setup.job, "operator": setup.operator, "subtask": setup.subtask, "parallelism": setup.parallelism,
        "resources": {r.name: bytes(r.content) for r in setup.resources},
    }
    bound = bindings.bind(
        declared, _fields(bound_to.arguments), _fields(bound_to.key), bound_to.result,
        {name: access.name.lower() for name, access in bound_to.access}, dict(bound_to.parameters), environment,
        lambda name, data_type, by_call: codec.state(index, name, data_type.compiled(), by_call), codec,
    )
    codec.finish(
        index, bound.mode, tuple(t.compiled() for t in bound.arguments), tuple(bound.null_skips), tuple(t.compiled() for t in bound.keys),
        bound.key_row.compiled() if bound.key_row else None, bound.result.compiled(), bound.calls, bound.context, bound.drive,
    )
    states = [
        control.StateDeclaration(s.name, str(s.data_type), control.Access.CALL if s.by_call else control.Access.COLUMN) for s in bound.states
    ]
    return control.Loaded(str(bound.result), states)


def _qualified(name):
    return f"{_Program.module.__name__}.{name}"


class Control(exports.Control):
    """The interface `control` of the contract."""

    def load_source(self, files):
        """Runs the program."""
        if not files:
            raise _refuse("load-source: there is no file")
        if _Program.sources is not None:
            raise _refuse("load-source: called twice in one instance")
        wasmill_output.install()
        try:
            _Program.sources = wasmill_sources.install(files)
            _Program.module = _Program.sources.run_program()
            _Program.functions = declare.functions_of(_Program.module, _Program.skipped)
        except BaseException as error:
            raise _problem(error) from None
        finally:
            wasmill_output.flush()
        gc.freeze()

    def describe(self):
        """All functions of the program."""
        if _Program.sources is None:
            raise _refuse("describe: call load-source before")
        told = [] if _Program.functions else list(_told_of_skipped())
        if told:  # a list of no functions would keep the reason from whoever does not see the log
            raise _refuse("\n".join(told))
        try:
            return [_described(d) for d in _Program.functions.values()]
        except BaseException as error:
            raise _problem(error) from None
        finally:
            wasmill_output.flush()

    def load_functions(self, setup):
        """Binds functions, and calls their `open`."""
        if _Program.sources is None:
            raise _refuse("load-functions: call load-source before")
        if _Program.setup_done:
            raise _refuse("load-functions: called twice in one instance")
        _Program.setup_done = True
        wasmill_files.granted.update(r.name for r in setup.resources)
        try:
            loaded = [_load(setup, b) for b in setup.bindings]
            for line in _told_of_skipped() if setup.subtask == 0 else ():  # its brothers would say the same
                wasmill_output.warn(line)
        except BaseException as error:
            raise _problem(error) from None
        finally:
            wasmill_output.flush()
        return loaded


codec.setup(
    (
        decimal.Decimal, datetime.date, datetime.time, datetime.datetime, datetime.timezone.utc, types.GeneratorType, types.MethodType,
    ),
    wasmill_problems.traceback_text,
)
wasmill_zones.install()
wasmill_json.install()
wasmill_files.install()
wasmill_snapshot.settle()
