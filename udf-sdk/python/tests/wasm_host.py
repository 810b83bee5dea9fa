"""Runs the Python runner under the PyPI package wasmtime: a small host for tests, which believes the guest everything.

Frames are made and read by the reference in wit/vectors/frames.py, so that no code of the SDK checks itself.
"""

import hashlib
import importlib.metadata
import os
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(ROOT / "wit" / "vectors"))

import frames  # noqa: E402
import wasmtime  # noqa: E402
from wasmtime import component as wc  # noqa: E402

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
_PLACES = [Path(os.environ[n]) for n in ["WASMILL_PYTHON_RUNNER"] if n in os.environ] + [
    TARGET / "release" / "python-runner.wasm", TARGET / "wasmill" / "python-runner.wasm"
]
RUNNER = next((p for p in _PLACES if p.exists()), _PLACES[0])
# Recursion through C takes about 1.8 KiB a level: with this the recursion limit of 1000 comes before the end of the stack.
STACK_BYTES = 2 << 20
CONTROL, BUNDLE = "wasmill:udf/control@0.1.0", "wasmill:udf/bundle@0.1.0"


class Problem(Exception):
    """The guest's `problem`."""

    def __init__(self, record):
        super().__init__(record.message)
        self.message, self.traceback = record.message, record.traceback


def record(**fields):
    """A WIT record: underscores stand for dashes."""
    made = wc.Record()
    for name, value in fields.items():
        setattr(made, name.replace("_", "-"), value)
    return made


_engine = None


def engine():
    """The one engine, and the compiled runner: compiled once, kept beside it."""
    global _engine
    if _engine is None:
        config = wasmtime.Config()
        config.max_wasm_stack = STACK_BYTES
        made = wasmtime.Engine(config)
        wasm = RUNNER.read_bytes()
        cached = RUNNER.with_suffix("." + hashlib.sha256(wasm + importlib.metadata.version("wasmtime").encode()).hexdigest()[:16] + ".cwasm")
        if not cached.exists():
            compiled = wc.Component(made, wasm).serialize()
            fresh = cached.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(compiled)
            os.replace(fresh, cached)
        _engine = made, wc.Component.deserialize_file(made, str(cached))
    return _engine


class Guest:
    """An instance of the runner with a program. `log` has (level, line), `state` what is kept by call, as bytes.

    WASI's random bytes come from the bundle's seed, unless `real_random` is set, as if the job had granted it."""

    real_random = False

    def __init__(self, source, name="program.py", files=()):
        self.log, self.state, self.calls, self.random = [], {}, [], random.Random(0)
        made, runner = engine()
        self.store = wasmtime.Store(made)
        self.store.set_wasi(wasmtime.WasiConfig())
        linker = wc.Linker(made)
        linker.add_wasip2()
        linker.allow_shadowing = True
        self._define(linker)
        self.instance = linker.instantiate(self.store, runner)
        given = [record(path=name, content=source.encode())] + [
            record(path=path, content=content if isinstance(content, bytes) else content.encode()) for path, content in dict(files).items()
        ]
        self.call(CONTROL, "load-source", given)

    def _define(self, linker):
        with linker.root() as root:
            for version in ("0.2.0", "0.2.9"):  # those that the runner asks for
                with root.add_instance(f"wasi:random/random@{version}") as wasi:
                    wasi.add_func("get-random-bytes", lambda store, length: self.random.randbytes(length))
                    wasi.add_func("get-random-u64", lambda store: self.random.getrandbits(64))
            with root.add_instance("wasmill:udf/host@0.1.0") as host:
                host.add_func("log", lambda store, level, message: self.log.append((level, message)))
                host.add_func("panicked", lambda store, message, location: self.log.append(("panicked", message)))
            with root.add_instance("wasmill:udf/state@0.1.0") as state:
                state.add_func("get", self._get)
                state.add_func("put", self._put)
                state.add_func("get-many", self._get_many)
                state.add_func("put-many", self._put_many)

    def _get(self, store, state, key):
        self.calls.append("get")
        return self.state.get((state, key))

    def _put(self, store, state, key, value):
        self.calls.append("put")
        if value is None:
            self.state.pop((state, key), None)
        else:
            self.state[state, key] = value

    def _get_many(self, store, state, keys):
        self.calls.append("get-many")
        ends, values = [], b""
        for key in keys:
            found = self.state.get((state, key))
            values += found or b""
            ends.append(len(values) | (0x80000000 if found is None else 0))
        return ends, values

    def _put_many(self, store, state, keys, ends, values):
        self.calls.append("put-many")
        start = 0
        for key, end in zip(keys, ends):
            if end & 0x80000000:
                self.state.pop((state, key), None)
            else:
                self.state[state, key] = values[start:end]
            start = end & 0x7FFFFFFF

    def call(self, interface, name, *arguments):
        """Calls an export; a problem is raised."""
        index = self.instance.get_export_index(self.store, name, self.instance.get_export_index(self.store, interface))
        function = self.instance.get_func(self.store, index)
        answer = function(self.store, *arguments)
        function.post_return(self.store)
        if isinstance(answer, wc.Variant):
            if answer.tag == "err":
                raise Problem(answer.payload)
            answer = answer.payload
        if interface == CONTROL and isinstance(answer, wc.Record) and hasattr(answer, "message") and hasattr(answer, "traceback"):
            raise Problem(answer)
        return answer

    def describe(self):
        """The functions by name."""
        return {f.name: f for f in self.call(CONTROL, "describe")}

    def load(self, *bindings, job="job", operator="op", subtask=0, parallelism=1, resources=()):
        """`load-functions`; a binding is a dict with function, arguments, key, result, access, parameters."""
        made = []
        for b in bindings:
            fields = lambda pairs: [record(name=n, data_type=t) for n, t in pairs]
            made.append(record(
                function=b["function"], arguments=fields(b.get("arguments", ())), key=fields(b.get("key", ())), result=b.get("result"),
                access=[tuple(x) for x in dict(b.get("access", {})).items()], parameters=[tuple(x) for x in dict(b.get("parameters", {})).items()],
            ))
        given = [record(name=n, content=c) for n, c in dict(resources).items()]
        setup = record(job=job, operator=operator, subtask=subtask, parallelism=parallelism, bindings=made, resources=given)
        self.bindings, self.loaded = bindings, self.call(CONTROL, "load-functions", setup)
        self.kinds = {f.name: getattr(f, "kind") for f in self.call(CONTROL, "describe")}
        return self.loaded

    def run(self, function=0, resume=True, **meaning):
        """Runs a bundle (the `meaning` of wit/vectors, with defaults) and gives the effects' meaning; `more` is followed and added up."""
        bound, loaded = self.bindings[function], self.loaded[function]
        states = [{"name": s.name, "type": getattr(s, "data-type"), "access": s.access} for s in loaded.states]
        columns = [s for s in states if s["access"] == "column"]
        arguments = meaning.get("arguments", [])
        rows = meaning["rows"] if "rows" in meaning else len(arguments[0]) if arguments else 0
        keys = meaning.get("keys", 0)
        m = {
            "function": function, "operation": 0, "rows": rows, "keys": keys, "watermark": frames.NO_TIME, "processing_time": 0, "seed": 0,
            "arguments": [], "event_times": None, "row_kinds": None, "key_index": None, "key_columns": [],
            "states": [[None] * keys for _ in columns], "sources": [None for _ in columns],
        }
        m.update(meaning)
        kind = self.kinds[bound["function"]]
        if not self.real_random:
            self.random.seed(m["seed"])
        declared = {
            "arguments": [{"name": n, "type": t} for n, t in bound.get("arguments", ())],
            "key": [{"name": n, "type": t} for n, t in bound.get("key", ())], "states": states,
        }
        answer = self.call(BUNDLE, "run-frame", frames.encode_bundle(kind, declared, m))
        effects = frames.decode_effects(loaded.result, states, keys, bytes(answer))
        effects["frames"] = 1
        while resume and effects["status"] == 1:
            answer = self.call(BUNDLE, "resume-frame", b"")
            more = frames.decode_effects(loaded.result, states, keys, bytes(answer))
            for part in ("output", "errors"):
                effects[part] += more[part]
            for part in ("source_rows", "row_kinds"):
                if more[part]:
                    effects[part] = (effects[part] or []) + more[part]
            effects["status"], effects["states"] = more["status"], more["states"]
            effects["frames"] += 1
        return effects
