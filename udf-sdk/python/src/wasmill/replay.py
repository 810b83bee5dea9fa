"""Runs a call natively that ended a job: `python -m wasmill.replay DIR`, which `wasmill replay DIR --native` is.

The record has the bytes that the function was given, its state and its source. Here the function is called with them in this process,
where a debugger can stop it. What is not as in the job: the clock is this machine's, but for that of `ctx`; the modules of the standard
library are those of this Python; there is no limit of time and memory.
"""

import argparse
import bdb
import importlib.util
import json
import os
import pdb
import pickle
import random
import struct
import sys
import traceback

from . import frames
from .binding import BindingError
from .declare import DeclarationError, functions_of
from .notation import TypeNotationError, parse
from .testing import Harness

VERSION = 1


class ReplayError(Exception):
    """The call cannot be run. The message is for the user."""


class Recorded:
    """A record, read whole. `record` is its replay.json; docs/replay.md has the fields."""

    def __init__(self, folder):
        self.folder = folder
        path = os.path.join(folder, "replay.json")
        try:
            self.record = json.loads(_read(path))
        except ValueError as error:
            raise ReplayError(f"{path} is damaged: {error}") from None
        version = self.record.get("version")
        if not isinstance(version, int) or not 1 <= version <= VERSION:
            raise ReplayError(f"{path} is of version {version}, and this SDK reads up to {VERSION}: replay it with a later one")
        self.function, self.udf, self.failure = self.record["function"], self.record["udf"], self.record["failure"]
        if not self.udf["source"]:
            raise ReplayError(f"udf {self.udf['name']!r} is a component: only one in Python can be run here")
        types = lambda fields: [parse(f["type"]) for f in fields]
        in_frame = [s for s in self.function["states"] if not s["by_call"]]
        frame = os.path.join(folder, "bundle.frame")
        try:
            self.bundle = frames.Bundle(
                _read(frame), self.function["kind"], types(self.function["arguments"]), types(self.function["key"]), types(in_frame)
            )
        except (frames.FrameError, UnicodeDecodeError) as error:
            raise ReplayError(f"{frame} is damaged: {error}") from None
        self.states = {s["name"]: dict(enumerate(values)) for s, values in zip(in_frame, self.bundle.states)}
        self._read_called()

    def _read_called(self):
        declared = self.function["states"]
        called = {i: parse(s["type"]) for i, s in enumerate(declared) if s["by_call"]}
        self.states.update({declared[i]["name"]: {} for i in called})
        if not called:
            return
        path, at = os.path.join(self.folder, "states.bin"), 0
        data = _read(path)
        try:
            while at < len(data):
                state, key, length = struct.unpack_from("<III", data, at)
                at += 12 + length
                self.states[declared[state]["name"]][key] = frames.value(called[state], data[at - length : at])
        except (struct.error, frames.FrameError, KeyError, IndexError) as error:
            raise ReplayError(f"{path} is damaged: {error}") from None

    def resources(self):
        """The files that the job grants, by name."""
        return {name: _read(os.path.join(self.folder, "resources", name)) for name in self.udf["resources"]}

    def key(self, index):
        """The key of that number: a value, a tuple of several, or None without any."""
        values = tuple(column[index] for column in self.bundle.key_columns)
        return values[0] if len(values) == 1 else values or None


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ReplayError(f"cannot read {path}: {error.strerror}") from None


class Replay(Harness):
    """A recorded call on its way. Keys go by their number in the bundle."""

    def __init__(self, recorded, declared, only=None):
        function, record = recorded.function, recorded.record
        environment = {
            "job": record["job"], "operator": record["node"], "subtask": record["subtask"], "parallelism": record["parallelism"],
        }
        super().__init__(
            declared, arguments=[(a["name"], a["type"]) for a in function["arguments"]], key=[k["name"] for k in function["key"]],
            result=function["wanted_result"], parameters=dict(function["parameters"]), resources=recorded.resources(),
            on_error="collect", environment=environment,
        )
        self.recorded, self.only = recorded, only
        self.watermark, self.processing_time = recorded.bundle.watermark, recorded.bundle.processing_time
        self._take_states({s["name"]: parse(s["type"]) for s in function["states"]})

    def _take_states(self, recorded_types):
        for name, state in self._states.items():
            was = recorded_types.get(name, state.data_type)
            if was != state.data_type:
                raise ReplayError(f"state {name!r} is {state.data_type} in this version, and its recorded values are {was}")
            state.values = {k: v for k, v in self.recorded.states.get(name, {}).items() if v is not None}

    def run(self):
        """Calls the function for each row, or key of an aggregate's results. Gives (row, value) of what came out."""
        bundle = self.recorded.bundle
        out = []
        for row in range(bundle.keys if bundle.operation == frames.RESULT else bundle.rows):
            came, failed = [], len(self.errors)
            self._place(row)
            self._guarded(row, came, lambda row=row: self._call(row))
            out += [(row, value) for value in came]
            if len(self.errors) > failed and isinstance(self.errors[-1].exception, (KeyboardInterrupt, bdb.BdbQuit)):
                break
        return out

    def _place(self, row):
        bundle = self.recorded.bundle
        time = bundle.event_times[row] if bundle.event_times else frames.NO_TIME
        self._timestamp, self.undo = None if time == frames.NO_TIME else time, []
        self.hashable_key = row if bundle.operation == frames.RESULT else bundle.key_index[row] if bundle.key_index else None
        if self.hashable_key is not None:
            self._key = self._key_of([column[self.hashable_key] for column in bundle.key_columns])

    def _call(self, row):
        bundle, calls = self.recorded.bundle, self._bound.calls
        if bundle.operation == frames.RESULT:
            return [self._result_of(self._states["accumulator"].values.get(row))]
        if bundle.operation == frames.MERGE:
            return self._fold(calls[2], [bundle.sources[0][row]])
        arguments = [column[row] for column in bundle.arguments]
        if bundle.operation == frames.RETRACT:
            return self._fold(calls[1], arguments)
        return self._one(tuple(arguments) if len(arguments) != 1 else arguments[0])

    def shown(self, name, held):
        """A state's value for a person."""
        return pickle.loads(held) if self._bound.pickled and held is not None else held


def load(recorded, path=None):
    """The function, of the recorded source or of another version of the program; and the files of the UDF."""
    source = os.path.join(recorded.folder, "source")
    program = os.path.abspath(path or os.path.join(source, recorded.udf["source"][0]))
    sys.path[:0] = [os.path.dirname(program), os.path.abspath(source)]
    sys.dont_write_bytecode = True  # the record stays as it is
    stem = os.path.splitext(os.path.basename(program))[0]
    name = stem if stem.isidentifier() and stem not in sys.modules else "wasmill_program"
    spec = importlib.util.spec_from_file_location(name, program)
    if spec is None or not os.path.isfile(program):
        raise ReplayError(f"there is no Python file {program}")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    skipped, wanted = {}, recorded.function["name"]
    functions = functions_of(module, skipped)
    if wanted not in functions:
        raise ReplayError(skipped.get(wanted) or f"{program} has no function {wanted!r}; it has {', '.join(functions) or 'none'}")
    declared = functions[wanted]
    if declared.kind != recorded.function["kind"]:
        raise ReplayError(f"function {wanted!r} is of kind {declared.kind} in this version, and was {recorded.function['kind']}")
    return declared


def seed_random(seed):
    """As the runner does before each bundle: 16 bytes of the host's SplitMix64 seed the module `random`."""
    mask, taken = 2**64 - 1, b""
    for _ in range(2):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        mixed = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & mask
        taken += (mixed ^ mixed >> 31).to_bytes(8, "little")
    random.seed(taken)


# ---- for a person

def _tell(recorded, replay, rows_max):
    record, bundle, failure = recorded.record, recorded.bundle, recorded.failure
    print(f"job {record['job']}, node {record['node']}, subtask {record['subtask']}, bundle {record['bundle']}: "
          f"{recorded.function['kind']} {recorded.udf['name']}.{recorded.function['name']}, natively by Python {sys.version.split()[0]}")
    at = "" if failure["row"] is None else f" on row {failure['row']}"
    print(f"recorded: {failure['kind']}: {failure['message']}{at}")
    _listed("keys and states", range(bundle.keys), rows_max, lambda key: _key_text(recorded, replay, key))
    if bundle.operation not in (frames.RESULT, frames.MERGE):
        names = [a["name"] for a in recorded.function["arguments"]]
        _listed("rows", range(bundle.rows), rows_max, lambda row: _row_text(bundle, names, row))


def _listed(title, items, rows_max, text):
    if not items:
        return
    print(f"{title}:")
    for item in items[:rows_max]:
        print(f"  {text(item)}")
    if len(items) > rows_max:
        print(f"  and {len(items) - rows_max} more (--rows)")


def _key_text(recorded, replay, key):
    states = ", ".join(f"{n} = {replay.shown(n, s.values.get(key))!r}" for n, s in replay._states.items())
    return f"key {key}: {recorded.key(key)!r}" + (f": {states}" if states else "")


def _row_text(bundle, names, row):
    key = f" (key {bundle.key_index[row]})" if bundle.key_index else ""
    return f"row {row}{key}: " + ", ".join(f"{n} = {column[row]!r}" for n, column in zip(names, bundle.arguments))


def _tell_outcome(recorded, replay, out, before, rows_max):
    for error in replay.errors[:rows_max]:
        print(f"row {error.row}: {error.kind}: {error.message}")
        print("".join(_users_frames(error.exception).format()), end="")
    _listed("rows out", out, rows_max, lambda came: f"row {came[0]}: {came[1]!r}")
    written = [k for k in range(recorded.bundle.keys) if any(s.values.get(k) != before[n].get(k) for n, s in replay._states.items())]
    _listed("states that have changed", written, rows_max, lambda key: _key_text(recorded, replay, key))
    failure = recorded.failure
    if not replay.errors:
        print("runs well")
    elif any((e.row, e.kind) == (failure["row"], failure["kind"]) for e in replay.errors):  # versions of Python have other words
        print("fails as it did")
    else:
        print("fails, and not as it did")


def _users_frames(exception):
    """The traceback without the frames of this package."""
    shown = traceback.TracebackException.from_exception(exception)
    here = os.path.dirname(os.path.abspath(__file__))
    shown.stack[:] = [frame for frame in shown.stack if os.path.dirname(os.path.abspath(frame.filename)) != here]
    return shown


# ---- in a debugger

def _users_traceback(exception):
    """The part of the traceback from the user's first frame on."""
    here, found = os.path.dirname(os.path.abspath(__file__)), exception.__traceback__
    while found.tb_next and os.path.dirname(os.path.abspath(found.tb_frame.f_code.co_filename)) == here:
        found = found.tb_next
    return found


class _PostMortem(Replay):
    """Goes into pdb where the first row raises, before what it has written to its states is undone."""

    def _call(self, row):
        try:
            yield from super()._call(row)
        except BaseException as error:
            if not self.errors:
                print(f"row {row}: {type(error).__name__}: {error}")
                pdb.post_mortem(_users_traceback(error))
            raise


class _Stopping(Replay):
    """Goes into pdb at the first line of the UDF that a certain row comes to."""

    def _call(self, row):
        if row != self.only:
            return super()._call(row)
        here, debugger = os.path.dirname(os.path.abspath(__file__)), pdb.Pdb()

        def tracer(frame, event, arg):
            if os.path.dirname(os.path.abspath(frame.f_code.co_filename)) == here or frame.f_code.co_filename.startswith("<"):
                return None
            sys.settrace(None)
            debugger.set_trace(frame)
            return frame.f_trace

        sys.settrace(tracer)
        return super()._call(row)


def main(arguments=None):
    """Exit code 0: it runs well, 1: it fails, 2: it cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m wasmill.replay", description="Runs a call natively that ended a job.")
    parser.add_argument("folder", metavar="DIR", help="the folder of the record")
    parser.add_argument("--udf", metavar="FILE", help="another version of the program, a .py file")
    parser.add_argument("--rows", type=int, default=20, help="how many rows, keys and rows out to show (20)")
    debugged = parser.add_mutually_exclusive_group()
    debugged.add_argument("--pdb", action="store_true", help="into pdb where it raises")
    debugged.add_argument("--stop-at", type=int, metavar="ROW", help="into pdb at the function's first line, at this row of the bundle")
    given = parser.parse_args(arguments)
    try:
        recorded = Recorded(given.folder)
        declared = load(recorded, given.udf)
        made = _PostMortem if given.pdb else Replay if given.stop_at is None else _Stopping
        replay = made(recorded, declared, given.stop_at)
    except (ReplayError, BindingError, DeclarationError, TypeNotationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # the user's own: an import that this Python has not, say, or what open() raises
        print("".join(_users_frames(error).format()) + "error: the UDF does not load natively", file=sys.stderr)
        return 2
    before = {name: dict(state.values) for name, state in replay._states.items()}
    _tell(recorded, replay, given.rows)
    if not recorded.udf["real_random"]:
        seed_random(recorded.bundle.seed)
    out = replay.run()
    sys.settrace(None)
    _tell_outcome(recorded, replay, out, before, given.rows)
    return 1 if replay.errors else 0


if __name__ == "__main__":
    sys.exit(main())
