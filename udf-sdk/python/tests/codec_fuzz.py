"""Made-up functions, bundles and answers, and what becomes of them by the contract: a model of the codec's loops in plain Python.

Columns, frames and values are those of the reference (wit/vectors/frames.py), Python values those of plain.py, and messages those of
wasmill.convert. The codec must agree with all three, whatever the types, nulls, states and errors.
"""

import contextlib
import decimal
import itertools
import math
import struct

import frames
import plain
from wasmill import Row
from wasmill.convert import normalise
from wasmill.notation import DataType, parse

LEAVES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "utf8", "binary", "date", "time",
    "timestamp(s)", "timestamp(ms)", "timestamp(us)", "timestamp(ns)", "timestamp(us,UTC)", "timestamp(ms,+05:30)", "timestamp(s,America/New_York)",
]
KEYS = ["utf8", "int32", "date", "bool", "binary", "decimal(9,3)", "time", "timestamp(us,UTC)", "uint64"]
NAMES = ["a", "b", "two words", "ü", "d"]
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6}
TRUTHS = [True, False, None, 0, 1, "", "x", [], [0], 0.0, Row(a=1)]
WRONG = [None, True, -1, 10**30, 1.5, float("nan"), "text", "\ud800", b"bytes", [None], (), {"z": 1}, {}, Row(1, "x"), decimal.Decimal("NaN"), object()]


# ---- types and values

def random_type(rng, depth=0, nullable=None):
    nullable = rng.random() < 0.4 if nullable is None else nullable
    pick = rng.random()
    if depth > 2 or pick < 0.6:
        if rng.random() < 0.1:
            precision = rng.randint(1, 38)
            return parse(f"decimal({precision},{rng.randint(0, precision)})").as_nullable(nullable)
        return parse(rng.choice(LEAVES)).as_nullable(nullable)
    if pick < 0.75:
        return DataType("list", nullable, fields=[("item", random_type(rng, depth + 1))])
    if pick < 0.9:
        names = rng.sample(NAMES, rng.randint(0, 4))
        return DataType("struct", nullable, fields=[(n, random_type(rng, depth + 1)) for n in names])
    return DataType("map", nullable, fields=[("key", parse(rng.choice(KEYS))), ("value", random_type(rng, depth + 1))])


def random_value(rng, t):
    """As the reference has it: what JSON can hold."""
    if t.nullable and rng.random() < 0.3:
        return None
    name = t.name
    if name == "bool":
        return rng.random() < 0.5
    if name in ("date", "time", "timestamp"):
        return random_time(rng, t)
    if "int" in name:
        bits = int(name.lstrip("uint"))
        low, high = (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return rng.choice([low, high, 0, rng.randint(low, high)])
    if name in ("float32", "float64"):
        code = "f" if name == "float32" else "d"
        value = struct.unpack("<" + code, rng.randbytes(struct.calcsize(code)))[0]
        return rng.choice([0.5, -0.0, "NaN", "inf", "-inf", float(rng.randint(-999, 999)), value if math.isfinite(value) else 0.0])
    if name == "decimal":
        precision, scale = t.params
        unscaled = rng.choice([rng.randint(-(10**precision) + 1, 10**precision - 1), rng.randint(-9, 9), 10**precision - 1])
        return f"{decimal.Decimal(unscaled).scaleb(-scale, frames.WIDE):f}"
    if name == "utf8":
        return "".join(rng.choice("aü日😀\0 ") for _ in range(rng.choice([0, 1, 3, 9, 40])))
    if name == "binary":
        return rng.randbytes(rng.choice([0, 1, 9, 40])).hex()
    if name == "list":
        return [random_value(rng, t.fields[0][1]) for _ in range(rng.choice([0, 1, 2, 9]))]
    if name == "map":
        keys = []
        for key in (random_value(rng, t.fields[0][1]) for _ in range(rng.randint(0, 4))):
            keys += [key] * (key not in keys)
        return [[key, random_value(rng, t.fields[1][1])] for key in keys]
    return {n: random_value(rng, c) for n, c in t.fields}


def random_time(rng, t):
    if t.name == "date":
        return rng.randint(-700000, 2900000)
    if t.name == "time":
        return rng.choice([0, 86399999999, rng.randint(0, 86399999999)])
    if t.params[0] == "ns":
        # In Python the least of these would be before the first nanosecond that there is.
        return rng.choice([1000 - 2**63, 2**63 - 1, rng.randint(1000 - 2**63, 2**63 - 1)])
    return rng.randint(-60_000_000_000, 250_000_000_000) * PER_SECOND[t.params[0]] + rng.randint(0, 1)


def other_form(rng, t, value):
    """Something else that a UDF may give in place of a value."""
    if value is None or rng.random() < 0.5:
        return value
    if t.name == "struct":
        values = [other_form(rng, c, v) for (_, c), v in zip(t.fields, value)]
        return rng.choice([values, tuple(values), dict(zip(t.names, values)), Row(*values)])
    if t.name == "list":
        items = [other_form(rng, t.fields[0][1], v) for v in value]
        return rng.choice([items, tuple(items)])
    if t.name == "map":
        return {k: other_form(rng, t.fields[1][1], v) for k, v in value.items()}
    if t.name == "binary":
        return rng.choice([bytearray, memoryview])(value)
    return value


def spoiled(rng, t, value):
    """A value with something wrong somewhere in it, most of the time."""
    if value is not None and rng.random() < 0.7:
        if t.name == "list" and value:
            at = rng.randrange(len(value))
            return [*value[:at], spoiled(rng, t.fields[0][1], value[at]), *value[at + 1:]]
        if t.name == "struct" and t.fields:
            at = rng.randrange(len(t.fields))
            return tuple(spoiled(rng, t.fields[i][1], v) if i == at else v for i, v in enumerate(value))
        if t.name == "map" and value:
            at = rng.choice(list(value))
            return {k: spoiled(rng, t.fields[1][1], v) if k == at else v for k, v in value.items()}
    return rng.choice(WRONG)


def refusal(t, value, where):
    """(kind, message) if the value is none of the type."""
    try:
        normalise(t, value, where)
    except (TypeError, OverflowError, ValueError) as error:
        return type(error).__name__, str(error)
    return None


@contextlib.contextmanager
def noise(rng):
    """Puts anything at all under nulls and behind the last bit of bitmaps, where it means nothing, into what the reference encodes."""
    empty, bits = frames.empty, frames.bits
    frames.empty = lambda kind: random_value(rng, parse(str(kind)).not_null())
    frames.bits = lambda flags: bits([*flags, *[True] * (-len(flags) % 8)])
    try:
        yield
    finally:
        frames.empty, frames.bits = empty, bits


# ---- a bundle and what is expected of it

class Boom(Exception):
    """Raised by functions that are to fail."""


class Host:
    """The host's side of states that are reached by call."""

    def __init__(self):
        self.values = {}

    def get(self, state, key):
        return self.values.get((state, key))

    def put(self, state, key, value):
        self.values[state, key] = value


class State:
    """What a state is by the model: values of the reference by key, and which keys were written."""

    def __init__(self, rng, name, t, access, keys):
        self.name, self.type, self.access = name, t, access
        self.before = [random_value(rng, t.as_nullable(True)) for _ in range(keys)]
        self.values = [plain.coarse(t, v) for v in self.before]
        self.written = [False] * keys

    def saved(self):
        return list(self.values), list(self.written)

    def restore(self, saved):
        self.values, self.written = map(list, saved)

    def put(self, key, value):
        self.values[key], self.written[key] = plain.coarse(self.type, value), True

    def meaning(self):
        if not any(self.written):
            return None
        return {"values": [v if w else None for v, w in zip(self.values, self.written)], "written": list(self.written)}


class Case:
    """A function of any kind, a bundle for it, and what it has to answer. `check` runs it."""

    def __init__(self, rng, codec):
        self.rng, self.codec = rng, codec
        self.kind = rng.choice(["scalar", "map", "filter", "table", "process", "reduce", "aggregate"])
        self.operation = rng.randint(1, 4) if self.kind == "aggregate" else 0
        self.rows = 0 if self.operation == 4 else rng.choice([0, 1, 7, 8, 9, 65])
        self.fails = rng.choice([0, 0, 0.1, 0.6])
        self.mistakes, self.output, self.sources, self.kinds, self.errors = [], [], [], [], []
        self.types()
        self.bundle()

    def types(self):
        rng = self.rng
        if self.kind == "reduce":
            self.arguments = [random_type(rng, nullable=False)]
            self.result = self.arguments[0]
        else:
            self.arguments = [random_type(rng) for _ in range(rng.choice([1, 1, 2, 4]))]
            self.result = parse("bool") if self.kind == "filter" else random_type(rng)
        keyed = self.kind in ("process", "reduce", "aggregate")
        self.key_types = [random_type(rng) for _ in range(rng.choice([1, 2]))] if keyed else []
        self.keys = rng.choice([1, 2, 9]) if keyed else 0
        states = {"reduce": [("reduced", self.arguments[0], "column")], "aggregate": [("accumulator", random_type(rng, nullable=False), "column")]}
        if self.kind == "process":
            states["process"] = [(f"s{i}", random_type(rng, nullable=False), rng.choice(["column", "call"])) for i in range(rng.randint(0, 3))]
        self.states = [State(rng, *state, self.keys) for state in states.get(self.kind, [])]
        skip = self.kind in ("scalar", "map") and self.result.nullable
        self.null_skips = [skip and t.nullable and rng.random() < 0.5 for t in self.arguments]

    def bundle(self):
        rng = self.rng
        columns = [s for s in self.states if s.access == "column"]
        self.columns = [[random_value(rng, t) for _ in range(self.rows)] for t in self.arguments]
        self.meaning = {
            "function": 0, "operation": self.operation, "rows": self.rows, "keys": self.keys, "seed": rng.getrandbits(64),
            "watermark": rng.choice([frames.NO_TIME, rng.randint(-(2**62), 2**62)]), "processing_time": rng.randint(0, 2**62),
            "arguments": [None] * len(self.arguments) if self.operation in (3, 4) else self.columns,
            "event_times": rng.choice([None, [rng.choice([frames.NO_TIME, rng.randint(-(2**62), 2**62)]) for _ in range(self.rows)]]) or None,
            "row_kinds": rng.choice([None, [rng.randint(0, 3) for _ in range(self.rows)]]) or None,
            "key_index": [rng.randrange(self.keys) for _ in range(self.rows)] if self.keys and self.rows else None,
            "key_columns": [[random_value(rng, t) for _ in range(self.keys)] for t in self.key_types],
            "states": [s.before for s in columns],
            "sources": [[random_value(rng, s.type.as_nullable(True)) for _ in range(self.rows)] if self.operation == 3 else None for s in columns],
        }

    # ---- what functions see and give

    def expect(self, what, got, wanted):
        """Notes a difference: an exception here would be a row's error only."""
        if not plain.same(got, wanted):
            self.mistakes.append(f"{what}: {got!r} is not {wanted!r}")

    def key(self, row):
        return self.meaning["key_index"][row] if self.keys else None

    def inputs(self, row):
        return [plain.to_python(t, column[row]) for t, column in zip(self.arguments, self.columns)]

    def see(self, row, arguments):
        self.expect(f"arguments of row {row}", list(arguments), self.inputs(row))

    def give(self, t, value, where):
        """In any form, and what is expected of it: the value of the reference, or (kind, message)."""
        made = plain.to_python(t, value)
        if self.rng.random() < self.fails:
            bad = spoiled(self.rng, t, made)
            refused = refusal(t, bad, where)
            if refused:
                return bad, None, refused
        return other_form(self.rng, t, made), plain.coarse(t, value), None

    def fail(self, row, kind, message):
        self.errors.append((row, kind, message))

    # ---- kinds

    def scalar(self):
        """A value a row; `None` among `rows` are those for which nothing is called."""
        skipped = lambda row: any(skip and c[row] is None for skip, c in zip(self.null_skips, self.columns))
        rows = iter([row for row in range(self.rows) if not skipped(row)])
        planned = {}

        def call(*arguments):
            row = next(rows)
            self.see(row, arguments)
            if self.rng.random() < self.fails / 2:
                planned[row] = (None, ("Boom", f"row {row}"))
                raise Boom(f"row {row}")
            if self.kind == "filter":
                truth = self.rng.choice(TRUTHS)
                planned[row] = (bool(truth), None)
                return truth
            given, value, refused = self.give(self.result, random_value(self.rng, self.result), "f: result")
            planned[row] = (value, refused)
            return given

        def finish():
            for row in range(self.rows):
                value, error = planned.get(row, (None, None))
                self.output.append(value)
                if error:
                    self.fail(row, *error)

        return call, finish

    def many(self):
        """Any number of rows a row. With an argument and `yield` it is driven from bytecode; lists and None never are."""
        rows, rng, context = iter(range(self.rows)), self.rng, self.kind == "process"
        form = rng.choice(["generator", "list"])

        def items(row):
            saved = [s.saved() for s in self.states]
            out = []
            try:
                for _ in range(rng.choice([0, 0, 1, 2, 5])):
                    self.use_states(row)
                    given, value, refused = self.give(self.result, random_value(rng, self.result), "f: result")
                    kind = self.choose_kind(row, given)
                    out.append((given, value, kind, refused))
                    yield given
                    if refused:
                        break
                self.use_states(row)
                refused = next((refused for *_, refused in out if refused), None)
                if not refused and rng.random() < self.fails / 2:
                    refused = ("Boom", f"row {row}")
                    out.append((None, None, None, refused))
                    raise Boom(f"row {row}")
            finally:
                # A generator is ended where its row is refused.
                self.end_row(row, out, saved)

        def yields(*arguments):
            row = self.enter(rows, arguments, context)
            yield from items(row)

        def lists(*arguments):
            return list(items(self.enter(rows, arguments, context))) or rng.choice([None, []])

        return yields if form == "generator" else lists, lambda: None

    def enter(self, rows, arguments, context):
        row = next(rows)
        self.see(row, arguments[: len(self.arguments)])
        if context:
            raw, times = self.codec.raw, self.meaning["event_times"]
            time = times[row] if times else frames.NO_TIME
            wanted = [None if t == frames.NO_TIME else t for t in (time, self.meaning["watermark"])]
            self.expect("times", [raw.timestamp(), raw.processing_time()], [wanted[0], self.meaning["processing_time"]])
            keys = [plain.to_python(t, c[self.key(row)]) for t, c in zip(self.key_types, self.meaning["key_columns"])]
            self.expect("key", raw.current_key(), keys[0] if len(keys) == 1 else Row(**{f"k{i}": k for i, k in enumerate(keys)}))
        return row

    def choose_kind(self, row, given):
        """A kind of its own for an output row, if it is a Row."""
        source = self.source_kind(row)
        if not isinstance(given, Row) or self.rng.random() < 0.8:
            return source
        from wasmill import RowKind

        kind = self.rng.choice(list(RowKind))
        given.set_row_kind(kind)
        return int(kind.value)

    def source_kind(self, row):
        return self.meaning["row_kinds"][row] if self.meaning["row_kinds"] else 0

    def end_row(self, row, out, saved):
        refused = next((refused for *_, refused in out if refused), None)
        if refused:
            self.fail(row, *refused)
            for state, before in zip(self.states, saved):
                state.restore(before)
            return
        for _, value, kind, _ in out:
            self.output.append(value)
            self.sources.append(row)
            self.kinds.append(kind)

    def use_states(self, row):
        for state, real in zip(self.states, self.function.states):
            key = self.key(row)
            for _ in range(self.rng.choice([0, 1, 1, 3])):
                pick = self.rng.random()
                if pick < 0.4:
                    self.expect(f"state {state.name} of row {row}", real.value(), plain.to_python(state.type, state.values[key]))
                elif pick < 0.55:
                    real.clear()
                    state.put(key, None)
                else:
                    given, value, refused = self.give(state.type, random_value(self.rng, state.type), f'state "{state.name}"')
                    refused = refused if given is not None else None  # None clears
                    try:
                        real.update(given)
                        self.expect("what was to be refused", refused, None)
                        state.put(key, value)
                    except (TypeError, OverflowError, ValueError) as error:
                        self.expect("refusal", (type(error).__name__, str(error)), refused)

    def reduce(self):
        state, rows = self.states[0], iter([])
        planned = []

        def call(before, value):
            row = next(rows)
            self.expect(f"reduced before row {row}", before, plain.to_python(state.type, state.values[self.key(row)]))
            self.see(row, [value])
            if self.rng.random() < self.fails / 2:
                self.fail(row, "Boom", f"row {row}")
                raise Boom(f"row {row}")
            given, made, refused = self.give(self.result, random_value(self.rng, self.result), "f: result")
            if refused:
                self.fail(row, *refused)
            else:
                state.put(self.key(row), made)
                planned.append((row, made))
            return given

        def calls():
            # A key without a value takes the row itself, without a call; that shows only once the rows before are done.
            for row in range(self.rows):
                if state.values[self.key(row)] is None:
                    first = plain.coarse(self.result, self.columns[0][row])
                    state.put(self.key(row), first)
                    planned.append((row, first))
                    continue
                yield row

        rows = calls()

        def finish():
            for _ in rows:
                self.mistakes.append("a row was left out")
            values = dict(planned)
            self.output.extend(values.get(row) for row in range(self.rows))

        return call, finish

    def aggregate(self):
        state, rows = self.states[0], iter(range(self.rows))
        created = random_value(self.rng, state.type)
        held = lambda key: plain.coarse(state.type, created) if state.values[key] is None else state.values[key]
        def fold(accumulator, *arguments):
            row = next(pending)
            key = self.key(row)
            self.expect(f"accumulator before row {row}", accumulator, plain.to_python(state.type, held(key)))
            if self.operation == 3:
                self.expect("source", arguments[0], plain.to_python(state.type, self.meaning["sources"][0][row]))
            else:
                self.see(row, arguments)
            if self.rng.random() < self.fails / 2:
                self.fail(row, "Boom", f"row {row}")
                raise Boom(f"row {row}")
            if self.rng.random() < 0.2:
                state.put(key, held(key))
                return None
            given, made, refused = self.give(state.type, random_value(self.rng, state.type), 'state "accumulator"')
            if given is None:
                state.put(key, held(key))
            elif refused:
                self.fail(row, *refused)
            else:
                state.put(key, made)
            return given

        def folds():
            for row in rows:
                if self.operation == 3 and self.meaning["sources"][0][row] is None:
                    # Nothing to fold in: the accumulator is written as it is.
                    state.put(self.key(row), held(self.key(row)))
                    continue
                yield row

        pending = folds()
        keys = iter(range(self.keys))

        def get(accumulator):
            key = next(keys)
            self.expect(f"accumulator of key {key}", accumulator, plain.to_python(state.type, held(key)))
            given, made, refused = self.give(self.result, random_value(self.rng, self.result), "f: result")
            self.output.append(made)
            if refused:
                self.fail(key, *refused)
            return given

        create = lambda: other_form(self.rng, state.type, plain.to_python(state.type, created))
        return (fold, fold, fold, create, get), lambda: [self.mistakes.append("a row was left out") for _ in pending]

    # ---- running

    def check(self):
        call, finish = {"table": self.many, "process": self.many, "filter": self.scalar, "map": self.scalar}.get(self.kind, getattr(self, self.kind, None))()
        calls = call if isinstance(call, tuple) else None
        text = [str(t) for t in self.arguments]
        states = [(s.name, str(s.type), s.access) for s in self.states]
        self.function = self.codec(
            self.kind, call, text, str(self.result), [str(t) for t in self.key_types], states, calls, self.null_skips,
        )
        host = Host()
        for index, s in enumerate(self.states):
            for key, value in enumerate(s.before):
                if s.access == "call" and value is not None:
                    host.values[index, key] = frames.encode_value(frames.parse(str(s.type)), value)
        before = dict(host.values)
        self.codec.raw.set_host(host)
        with noise(self.rng) if self.rng.random() < 0.5 else contextlib.nullcontext():
            data = self.function.run_bytes(self.meaning)
        finish()
        assert not self.mistakes, self.mistakes[:3]
        self.check_answer(data)
        self.check_host(host, before)

    def expected(self):
        many = self.kind in ("table", "process")
        own = many and any(kind != self.source_kind(source) for kind, source in zip(self.kinds, self.sources))
        return {
            "status": 0, "output": self.output, "source_rows": self.sources if many and self.sources else None,
            "row_kinds": self.kinds if own else None, "states": [s.meaning() for s in self.states if s.access == "column"], "errors": [],
        }

    def check_answer(self, data):
        wanted, bindings = self.expected(), self.function.binding["states"]
        got = self.function.read(data, self.keys)
        if wanted["row_kinds"] is None and got["row_kinds"] == self.kinds:
            wanted["row_kinds"] = self.kinds  # said though it need not be: a row that failed had a kind of its own
        errors = [(e["row"], e["kind"], e["message"]) for e in got.pop("errors")]
        self.compare(errors, self.errors)
        if not errors:
            again = frames.encode_effects(str(self.result), bindings, wanted)
            del wanted["errors"]
            self.compare(sorted(got.items()), sorted(wanted.items()))
            assert data == again, "the same, and other bytes"
            return
        if self.kind not in ("table", "process"):
            # Anything may hold the place of a row that failed.
            for row, _, _ in errors:
                if self.operation in (0, 4):
                    got["output"][row] = wanted["output"][row] = None
        del wanted["errors"]
        self.compare(sorted(got.items()), sorted(wanted.items()))

    def compare(self, got, wanted):
        """By their texts, so that NaN is itself; of what is not the same, the first difference is told."""
        pair = next(((g, w) for g, w in itertools.zip_longest(got, wanted) if repr(g) != repr(w)), None)
        assert pair is None, f"{self.kind} of {[*map(str, self.arguments)]} to {self.result}: {pair[0]} is not {pair[1]}"

    def check_host(self, host, before):
        for index, s in enumerate(self.states):
            for key, written in enumerate(s.written):
                if s.access == "call" and written:
                    value = s.values[key]
                    before[index, key] = None if value is None else frames.encode_value(frames.parse(str(s.type)), value)
        assert host.values == before
