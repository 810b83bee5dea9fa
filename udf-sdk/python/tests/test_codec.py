"""The loops of the codec: errors, undo, `more`, states, folding; and what is said of wrong values. Made-up ones are in test_codec_fuzz.py."""

import datetime
import decimal

import frames
import plain
import pytest
from wasmill import Row
from wasmill.convert import normalise
from wasmill.notation import parse


def failing(call, *arguments):
    """(type, message) of what a call raises, or its value."""
    try:
        return call(*arguments)
    except Exception as error:
        return type(error).__name__, str(error)


# ---- errors

def test_a_failing_row_keeps_its_place_and_says_why(codec):
    def f(a, b):
        return a // b

    got = codec("scalar", f, ["int64", "int64?"], "int64").run(arguments=[[6, 7, 8, 9], [2, 0, None, 3]])
    assert got["output"][0] == 3 and got["output"][3] == 3
    zero, none = got["errors"]
    assert (zero["row"], zero["kind"]) == (1, "ZeroDivisionError")
    assert "division" in zero["message"] or "modulo" in zero["message"]
    assert "test_codec.py" in zero["traceback"] and "return a // b" in zero["traceback"]
    assert (none["row"], none["kind"]) == (2, "TypeError")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError("no"), RecursionError("deep"), StopIteration(1)])
def test_whatever_is_raised_is_the_row_s_error(codec, error):
    def f(a):
        if a == 1:
            raise error
        return a

    got = codec("scalar", f, ["int64"], "int64").run(arguments=[[0, 1, 2]])
    assert [(e["row"], e["kind"], e["message"]) for e in got["errors"]] == [(1, type(error).__name__, str(error))]
    assert (got["output"][0], got["output"][2]) == (0, 2)


def test_only_the_first_errors_of_a_bundle_have_a_traceback(codec):
    def f(a):
        raise ValueError(a)

    got = codec("scalar", f, ["int64"], "int64").run(arguments=[list(range(20))])
    assert [bool(e["traceback"]) for e in got["errors"]] == [True] * 8 + [False] * 12
    assert [e["message"] for e in got["errors"]] == [str(i) for i in range(20)]


def test_messages_that_cannot_be_written_or_are_too_long(codec):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def f(a):
        raise [Odd(), ValueError("\ud800half"), ValueError("ü" * 100_000)][a]

    first, second, third = codec("scalar", f, ["int64"], "int64").run(arguments=[[0, 1, 2]])["errors"]
    assert first["kind"] == "Odd" and "__str__ raised" in first["message"]
    assert second["message"] == "\\ud800half"
    assert len(third["message"].encode()) == 8192 and set(third["message"]) == {"ü"}


@pytest.mark.parametrize(
    "result, value, kind, message",
    [
        ("int8", 128, "OverflowError", "f: result: does not fit int8, got int 128"),
        ("uint64", -1, "OverflowError", "f: result: does not fit uint64, got int -1"),
        ("int64", "5", "TypeError", "f: result: wants int64, got str '5'"),
        ("int64", 5.0, "TypeError", "f: result: wants int64, got float 5.0"),
        ("int64", None, "TypeError", "f: result: wants int64, got None"),
        ("bool", 1, "TypeError", "f: result: wants bool, got int 1"),
        ("float32", 1e300, "OverflowError", "f: result: does not fit float32, got float 1e+300"),
        ("utf8", b"x", "TypeError", "f: result: wants utf8, got bytes b'x'"),
        ("timestamp(us)", datetime.date(2020, 1, 1), "TypeError", "f: result: wants timestamp(us), got date"),
        ("struct<a: int64, b: utf8>", {"a": 1}, "TypeError", 'f: result: lacks the field "b" of struct<a: int64, b: utf8>'),
        ("struct<a: int64, b: utf8>", (1,), "TypeError", "f: result: wants the 2 fields of struct<a: int64, b: utf8>, got a tuple of 1"),
        ("struct<a: int64>", {"a": 1, "z": 2}, "TypeError", "f: result: has a field 'z' that is not in struct<a: int64>"),
        ("struct<a: list<map<utf8, int8>>>", {"a": [{}, {"k": 999}]}, "OverflowError", "f: result.a[1]['k']: does not fit int8, got int 999"),
        ("decimal(4,2)", decimal.Decimal("99.995"), "OverflowError", "f: result: does not fit decimal(4,2), got Decimal"),
        (
            "struct<a: utf8>", ["half \ud800"], "ValueError",
            "f: result.a: wants utf8, got str 'half \\ud800', whose character 5 is half a pair (a lone surrogate): "
            "replace it, as value.encode('utf-8', 'replace').decode() does",
        ),
        (
            "timestamp(us)", datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc), "TypeError",
            "f: result: wants timestamp(us), got datetime with a zone: take it off with "
            "value.astimezone(timezone.utc).replace(tzinfo=None), or declare a type with one, as timestamp(us,UTC)",
        ),
        (
            "timestamp(ms,UTC)", datetime.datetime(2020, 1, 1), "TypeError",
            "f: result: wants timestamp(ms,UTC), got datetime without a zone: give it one with "
            "value.replace(tzinfo=timezone.utc), or declare a type without, as timestamp(us)",
        ),
        (
            "time", datetime.time(1, tzinfo=datetime.timezone.utc), "TypeError",
            "f: result: wants time, got time with a zone: take it off with value.replace(tzinfo=None)",
        ),
    ],
)
def test_a_wrong_result_is_named(codec, result, value, kind, message):
    got = codec("scalar", lambda a: value, ["int64"], result).run(arguments=[[1]])
    assert [(e["kind"], e["message"]) for e in got["errors"]] == [(kind, message)]
    assert failing(normalise, parse(result), value, "f: result") == (kind, message)


# ---- null in, null out; filters

def test_null_in_null_out_without_a_call(codec):
    calls = []
    f = codec("scalar", lambda a, b: calls.append(a) or a, ["int64?", "int64?"], "int64?", null_skips=[True, False])
    assert f.run(arguments=[[1, None, 3], [None, 2, 3]])["output"] == [1, None, 3]
    assert calls == [1, 3]


def test_a_filter_takes_what_is_true(codec):
    assert codec("filter", lambda a: a, ["list<int64>?"], "bool").run(arguments=[[[1], [], None]])["output"] == [True, False, False]


# ---- any number of rows out

def test_rows_out_know_their_source(codec):
    def f(n):
        for i in range(n):
            yield (i, "x" * i)

    got = codec("table", f, ["int64"], "struct<i: int64, s: utf8>").run(arguments=[[2, 0, 1]])
    assert got["source_rows"] == [0, 0, 2]
    assert got["output"] == [{"i": 0, "s": ""}, {"i": 1, "s": "x"}, {"i": 0, "s": ""}]


def test_what_a_failing_row_emitted_is_taken_back(codec):
    def f(n):
        yield n
        if n == 1:
            raise ValueError("half-way")
        yield n

    got = codec("table", f, ["int64"], "int64").run(arguments=[[0, 1, 2]])
    assert got["output"] == [0, 0, 2, 2] and got["source_rows"] == [0, 0, 2, 2]
    assert [(e["row"], e["message"]) for e in got["errors"]] == [(1, "half-way")]


def test_a_wrong_row_ends_the_generator(codec):
    ended = []

    def f(n):
        try:
            yield n
            yield "wrong"
            yield n
        finally:
            ended.append(n)

    got = codec("table", f, ["int64"], "int64").run(arguments=[[1, 2]])
    assert got["output"] == [] and [e["row"] for e in got["errors"]] == [0, 1] and ended == [1, 2]


@pytest.mark.parametrize("value, name", [("text", "str"), (Row(a=1), "Row"), ({"a": 1}, "dict")])
def test_one_row_returned_instead_of_rows(codec, value, name):
    got = codec("table", lambda a: value, ["int64"], "utf8").run(arguments=[[1]])
    assert got["errors"][0]["message"] == f"f: returned one {name}: yield rows, or return a list of them"


def test_none_and_lists_are_rows_too(codec):
    got = codec("table", lambda a: None if a == 1 else [a, a], ["int64"], "int64").run(arguments=[[1, 2]])
    assert got["output"] == [2, 2] and not got["errors"]


def test_much_output_comes_in_parts_with_bounded_size(codec):
    def f(n):
        for i in range(n):
            yield "x" * 1000

    function = codec("table", f, ["int64"], "utf8")
    got, rows, parts = function.run(arguments=[[3000, 1, 2000]]), 0, 0
    sources = []
    while True:
        assert sum(map(len, got["output"])) < 1_100_000
        rows += len(got["output"])
        sources += got["source_rows"]
        parts += 1
        if got["status"] == 0:
            break
        got = function.resume()
    assert rows == 5001 and parts == 5 and sources == [0] * 3000 + [1] + [2] * 2000


def test_a_bundle_given_up_half_way_is_forgotten(codec):
    def f(n):
        while True:
            yield "x" * 100_000

    function = codec("table", f, ["int64"], "utf8")
    assert function.run(arguments=[[1]])["status"] == 1
    assert function.run(arguments=[[]])["status"] == 0


def test_row_kinds_of_output(codec):
    from wasmill import RowKind

    def f(a):
        row = Row(a=a)
        if a == 1:
            row.set_row_kind(RowKind.DELETE)
        yield row

    function = codec("table", f, ["int64"], "struct<a: int64>")
    assert function.run(arguments=[[0, 1]], row_kinds=[2, 0])["row_kinds"] == [2, 3]
    assert function.run(arguments=[[0, 0]], row_kinds=[2, 0])["row_kinds"] is None


# ---- states

class Sum:
    """A process function over a state that is set from outside."""

    def __init__(self):
        self.state = None

    def __call__(self, value, ctx):
        before = self.state.value()
        self.state.update((before or 0) + value)
        if value == 13:
            raise ValueError("unlucky")
        if value == 0:
            self.state.clear()
        yield self.state.value()


def keyed(codec, access, type="int64"):
    call = Sum()
    function = codec("process", call, ["int64"], "int64?", ["utf8"], [("sum", type, access)])
    call.state = function.states[0]
    return function


class Host:
    """The host's side of `state` for by-call access."""

    def __init__(self, values=()):
        self.values, self.asked = dict(values), []

    def get(self, state, key):
        self.asked.append(key)
        return self.values.get(key)

    def put(self, state, key, value):
        self.values[key] = value


def test_state_by_column(codec):
    got = keyed(codec, "column").run(
        arguments=[[1, 2, 13, 5, 0]], keys=3, key_index=[0, 1, 0, 0, 1], key_columns=[["a", "b", "c"]], states=[[10, None, 7]]
    )
    assert got["output"] == [11, 2, 16, None]
    assert [e["row"] for e in got["errors"]] == [2]
    assert got["states"] == [{"values": [16, None, None], "written": [True, True, False]}]


def test_state_by_call(codec):
    function, host = keyed(codec, "call"), Host({0: (10).to_bytes(8, "little"), 2: (7).to_bytes(8, "little")})
    codec.raw.set_host(host)
    got = function.run(arguments=[[1, 2, 13, 5, 0]], keys=3, key_index=[0, 1, 0, 0, 1], key_columns=[["a", "b", "c"]])
    assert got["output"] == [11, 2, 16, None] and got["states"] == []
    assert host.values == {0: (16).to_bytes(8, "little"), 1: None, 2: (7).to_bytes(8, "little")}
    assert host.asked == [0, 1, 2]


def test_a_state_keeps_what_was_stored_not_the_object(codec):
    held = {}

    def f(value, ctx):
        before = held["state"].value()
        mine = [value]
        held["state"].update(mine)
        mine.append(99)
        yield str(before)

    function = codec("process", f, ["int64"], "utf8", ["int64"], [("l", "list<int64>", "column")])
    held["state"] = function.states[0]
    got = function.run(arguments=[[1, 2]], keys=1, key_index=[0, 0], key_columns=[[5]])
    assert got["output"] == ["None", "[1]"] and got["states"][0]["values"] == [[2]]


def test_a_wrong_state_is_the_row_s_error(codec):
    function = keyed(codec, "column", "int8")
    got = function.run(arguments=[[1, 200]], keys=1, key_index=[0, 0], key_columns=[["a"]])
    assert [(e["row"], e["message"]) for e in got["errors"]] == [(1, 'state "sum": does not fit int8, got int 201')]
    assert got["states"][0]["values"] == [1]


def test_state_outside_of_a_row(codec):
    function = keyed(codec, "column")
    with pytest.raises(RuntimeError, match='state "sum": a state belongs to a key'):
        function.states[0].value()


def test_what_a_row_knows(codec):
    seen = []

    def f(value, ctx):
        raw = codec.raw
        seen.append((raw.timestamp(), raw.current_key(), raw.watermark(), raw.processing_time()))

    codec("process", f, ["int64"], "int64", ["utf8?"]).run(
        arguments=[[1, 2]], keys=2, key_index=[1, 0], key_columns=[["a", None]], event_times=[5, frames.NO_TIME], watermark=3, processing_time=4
    )
    assert seen == [(5, None, 3, 4), (None, "a", 3, 4)]
    seen.clear()
    codec("process", f, ["int64"], "int64", ["utf8", "int8"]).run(arguments=[[1]], keys=1, key_index=[0], key_columns=[["a"], [7]])
    assert seen[0][1] == Row(k0="a", k1=7)
    with pytest.raises(RuntimeError, match="no current row"):
        codec.raw.timestamp()


# ---- folding

def aggregate(codec, access="column"):
    def accumulate(acc, value):
        acc.n += 1
        acc["sum"] += value
        if value == 13:
            raise ValueError("unlucky")

    def retract(acc, value):
        acc[0] -= 1
        acc[1] -= value

    def merge(acc, other):
        acc.n += other.n
        acc.sum += other.sum

    calls = (accumulate, retract, merge, lambda: [0, 0.0], lambda acc: acc.sum / acc.n if acc.n else None)
    return codec("aggregate", None, ["float64"], "float64?", ["utf8"], [("accumulator", "struct<n: int64, sum: float64>", access)], calls)


def test_folding(codec):
    f, held = aggregate(codec), [{"n": 1, "sum": 2.0}, None]
    common = dict(keys=2, key_columns=[["a", "b"]], states=[held])
    got = f.run(operation=1, arguments=[[1.0, 13.0, 3.0, 4.0]], key_index=[0, 0, 1, 1], **common)
    assert got["states"] == [{"values": [{"n": 2, "sum": 3.0}, {"n": 2, "sum": 7.0}], "written": [True, True]}]
    assert got["output"] == [] and [e["row"] for e in got["errors"]] == [1]
    got = f.run(operation=2, arguments=[[0.5]], key_index=[0], **common)
    assert got["states"] == [{"values": [{"n": 0, "sum": 1.5}, None], "written": [True, False]}]
    got = f.run(operation=3, rows=3, arguments=[None], key_index=[0, 1, 1], sources=[[{"n": 5, "sum": 5.0}, None, {"n": 1, "sum": 9.0}]], **common)
    assert got["states"] == [{"values": [{"n": 6, "sum": 7.0}, {"n": 1, "sum": 9.0}], "written": [True, True]}]
    got = f.run(operation=4, rows=0, arguments=[[]], **common)
    assert got["output"] == [2.0, None] and got["states"] == [None]


def test_an_accumulator_that_fails_every_time_stays_as_it_was(codec):
    f = aggregate(codec)
    got = f.run(operation=1, arguments=[[13.0] * 3], key_index=[0] * 3, keys=1, key_columns=[["a"]])
    assert len(got["errors"]) == 3 and got["states"] == [None]


def test_an_accumulator_of_the_wrong_type_is_the_row_s_error(codec):
    calls = (lambda acc, v: "text" if v == 2 else acc + v, None, None, lambda: 0, lambda acc: acc)
    f = codec("aggregate", None, ["int64"], "int64", [], [("accumulator", "int64", "column")], calls)
    got = f.run(operation=1, arguments=[[1, 2, 3]], key_index=[0, 0, 0], keys=1)
    assert [e["message"] for e in got["errors"]] == ["state \"accumulator\": wants int64, got str 'text'"]
    assert got["states"][0]["values"] == [4]


def test_reducing(codec):
    def f(a, b):
        if b.n == 13:
            raise ValueError("unlucky")
        return (a.k, a.n + b.n)

    function = codec("reduce", f, ["struct<k: utf8, n: int64>"], "struct<k: utf8, n: int64>", ["utf8"], [("reduced", "struct<k: utf8, n: int64>", "column")])
    rows = [{"k": "x", "n": n} for n in (1, 2, 13, 4)]
    got = function.run(arguments=[rows], key_index=[0, 1, 1, 1], keys=2, key_columns=[["a", "b"]], states=[[{"k": "old", "n": 100}, None]])
    assert [o["n"] for i, o in enumerate(got["output"]) if i != 2] == [101, 2, 6]
    assert [e["row"] for e in got["errors"]] == [2]
    assert got["states"] == [{"values": [{"k": "old", "n": 101}, {"k": "x", "n": 6}], "written": [True, True]}]


@pytest.mark.parametrize(
    "type, value, read",
    [
        ("float32", 0.1, 0.10000000149011612), ("float64", 1, 1.0), ("int64", True, 1), ("decimal(4,2)", decimal.Decimal("1.005"), decimal.Decimal("1.01")),
        ("timestamp(s)", datetime.datetime(2020, 1, 1, 0, 0, 0, 5), datetime.datetime(2020, 1, 1)), ("binary", bytearray(b"x"), b"x"),
        ("list<float32>", [0.1], [0.10000000149011612]), ("list<struct<a: int64>>", [(1,)], [Row(a=1)]),
        ("struct<a: list<int64>>", Row(a=(1, 2)), Row(a=[1, 2])), ("map<utf8, struct<a: int64>>", {"k": {"a": 1}}, {"k": Row(a=1)}),
    ],
)
def test_a_fold_sees_what_was_stored_in_the_same_bundle_too(codec, type, value, read):
    """Where one bundle ends and the next begins must make no difference."""
    seen = []
    note = lambda before, row: seen.append(before) or value
    codec("reduce", note, [type], type, ["int8"], [("reduced", type, "column")]).run(
        arguments=[[_json_of(type)] * 3], key_index=[0] * 3, keys=1, key_columns=[[0]], states=[[None]],
    )
    calls = (note, None, None, lambda: value, lambda acc: 0)
    function = codec("aggregate", None, ["int8"], "int8", [], [("accumulator", type, "column")], calls)
    function.run(operation=1, arguments=[[1, 2, 3]], key_index=[0] * 3, keys=1)
    assert plain.same(seen[1:], [read] * 4)


def _json_of(type):
    """Any value of the type."""
    return {"float32": 0.0, "float64": 0.0, "int64": 0, "decimal(4,2)": "0.00", "timestamp(s)": 0, "binary": "", "struct<a: list<int64>>": {"a": []}}.get(type, [])


# ---- wrong values

WRONG = [
    None, True, 0, -1, 300, 2**31, 2**63, 2**64, -(2**63) - 1, 10**50, 1.5, float("nan"), 1e300, "text", "x" * 100, "\ud800", b"bytes",
    bytearray(b"b"), memoryview(b"m"), [], [1, None], ["a"], (), (1, 2), {}, {"a": 1}, {"a": 1, "b": "x", "z": 1}, {1: 2}, {1: "x"}, {"ü日" * 30: None}, {None: 1},
    Row(1, "x"), Row(a=1, b="x"), Row(b="x", a=1), Row(a=1, c=2), decimal.Decimal("1.25"), decimal.Decimal("-0.005"),
    decimal.Decimal("1E+30"), decimal.Decimal("1E+999999"), decimal.Decimal("1E-999999"), decimal.Decimal("NaN"), decimal.Decimal("Infinity"),
    decimal.Decimal("99.995"), decimal.Decimal("9" * 38), datetime.date(2024, 2, 29), datetime.time(1, 2, 3), datetime.datetime(2024, 2, 29, 1, 2, 3, 456789),
    datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999), datetime.datetime(1677, 9, 21, 0, 12, 43, 145225),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc), datetime.time(1, tzinfo=datetime.timezone.utc), object(), int, set(),
]
TARGETS = [
    "bool", "int8", "uint8", "int32", "uint32", "int64?", "uint64", "float32", "float64", "decimal(4,2)", "decimal(4,2)?", "decimal(38,0)",
    "utf8", "binary", "date", "time", "timestamp(s)", "timestamp(ns)", "timestamp(us,UTC)", "timestamp(ms,+05:30)", "list<int64>",
    "list<utf8?>", "map<utf8, int64>", "struct<a: int64, b: utf8>", "struct<a: int64, b: utf8?>",
]


@pytest.mark.parametrize("target", TARGETS)
def test_what_fits_and_what_is_said_is_the_same_in_c_and_in_python(codec, target):
    t = parse(target)
    for value in WRONG:
        in_python = failing(normalise, t, value, "f: result")
        f = codec("scalar", lambda a: value, ["int8"], target)
        taken = []
        if isinstance(in_python, tuple) and len(in_python) == 2 and in_python[0] in ("TypeError", "OverflowError", "ValueError"):
            errors = f.run(arguments=[[0]])["errors"]
            assert [(e["kind"], e["message"]) for e in errors] == [in_python], repr(value)
            continue
        data = f.run_bytes(_one_row())
        got = frames.decode_effects(target, [], 0, data)
        assert not got["errors"], repr(value)
        back = codec("scalar", lambda a: taken.append(a), [target], "int8?")
        back.run(arguments=[got["output"]])
        assert plain.same(taken[0], in_python), f"{value!r}: {taken[0]!r} {in_python!r}"


def _one_row():
    return {
        "function": 0, "operation": 0, "rows": 1, "keys": 0, "watermark": 0, "processing_time": 0, "seed": 0, "arguments": [[0]],
        "event_times": None, "row_kinds": None, "key_index": None, "key_columns": [], "states": [], "sources": [],
    }
