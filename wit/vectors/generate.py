"""Writes frames.json, the golden examples of the contract, from the cases below and the reference in frames.py.

    python3 wit/vectors/generate.py           write frames.json
    python3 wit/vectors/generate.py --check   fail if frames.json is not what would be written
"""

import json
import sys
from pathlib import Path

from frames import (
    NO_TIME, TypeText, decode_bundle, decode_effects, decode_value, encode_bundle, encode_effects, encode_value, parse,
)

HERE = Path(__file__).resolve().parent
PROCESS, ACCUMULATE, RETRACT, MERGE, RESULT = range(5)
BIG = 2**63 - 1

# A type and eight values of it, with what is at its edges.
TYPES = [
    ("bool", [True, False, True, True, False, False, True, False]),
    ("int8", [0, 1, -1, 127, -128, 5, 6, 7]),
    ("int16", [0, 1, -1, 32767, -32768, 5, 6, 7]),
    ("int32", [0, 1, -1, 2**31 - 1, -(2**31), 5, 6, 7]),
    ("int64", [0, 1, -1, BIG, -BIG - 1, 2**30, -(2**30), 2**60]),
    ("uint8", [0, 1, 2, 255, 128, 5, 6, 7]),
    ("uint16", [0, 1, 2, 65535, 32768, 5, 6, 7]),
    ("uint32", [0, 1, 2, 2**32 - 1, 2**31, 5, 6, 7]),
    ("uint64", [0, 1, 2, 2**64 - 1, 2**63, 5, 6, 7]),
    ("float32", [0.0, 1.5, -2.25, "NaN", "inf", "-inf", 3.0, 16777216.0]),
    ("float64", [0.0, 1.5, -0.1, "NaN", "inf", "-inf", 1e300, 5e-324]),
    ("decimal(10,2)", ["0.00", "1.50", "-1.50", "99999999.99", "-99999999.99", "0.01", "-0.01", "12.34"]),
    ("decimal(38,0)", ["0", "1", "-1", "9" * 38, "-" + "9" * 38, str(2**64), str(-(2**64)), "7"]),
    ("decimal(38,38)", ["0." + "0" * 38, "0." + "9" * 38, "-0." + "9" * 38] + ["0." + "0" * 37 + str(i) for i in range(1, 6)]),
    ("utf8", ["", "a", "Zürich", "日本", "😀", "null\0inside", "x" * 70, " "]),
    ("binary", ["", "00", "ff00ff", "c3", "deadbeef", "01", "02", "ab" * 65]),
    ("date", [0, 1, -1, 15706, -719162, 2932896, 59, 60]),
    ("time", [0, 1, 86399999999, 43200000000, 1000000, 5, 6, 7]),
    ("timestamp(s)", [0, 1, -1, 1357020000, -62135596800, 253402300799, 6, 7]),
    ("timestamp(ms)", [0, 1, -1, 1357020000123, -62135596800000, 253402300799999, 6, 7]),
    ("timestamp(us)", [0, 1, -1, 1357020000123456, -62135596800000000, 253402300799999999, 6, 7]),
    ("timestamp(ns)", [0, 1, -1, 1357020000123456789, BIG, -BIG - 1, 6, 7]),
    ("timestamp(us,UTC)", [0, 1, -1, 1357020000123456, 5, 6, 7, 8]),
    ("timestamp(ms,America/New_York)", [0, 1, -1, 1362898800000, 5, 6, 7, 8]),
    ("timestamp(s,+02:00)", [0, 1, -1, 1357020000, 5, 6, 7, 8]),
    ("list<int64>", [[], [1], [1, 2, 3], [], [4, 5], [6], list(range(20)), [-1]]),
    ("list<utf8?>", [[], [None], ["a", None, ""], ["ü"], [None, None], ["b"], ["c", "d"], ["e"]]),
    ("list<list<int32?>?>", [[], [None], [[], [1, None]], [[2]], [None, [3]], [[4], [5]], [[]], [[6, 7, 8]]]),
    ("struct<a: int64, b: utf8?>", [{"a": i, "b": None if i % 3 == 0 else "s" * i} for i in range(8)]),
    (
        'struct<"a b": float64?, tags: list<utf8?>?, in: struct<x: bool, y: date?>?>',
        [
            {"a b": 1.5, "tags": ["p", None], "in": {"x": True, "y": None}},
            {"a b": None, "tags": None, "in": None},
            {"a b": 0.5, "tags": [], "in": {"x": False, "y": 3}},
        ] + [{"a b": float(i), "tags": ["t"] * i, "in": {"x": i % 2 == 0, "y": i}} for i in range(5)],
    ),
    ("map<utf8, int64?>", [[], [["a", 1]], [["b", None], ["c", 2]], [], [["", 0]], [["d", 4]], [["e", 5]], [["f", 6]]]),
    (
        "map<int32, list<struct<k: utf8, v: decimal(5,1)?>?>>",
        [[], [[1, []]], [[2, [None, {"k": "a", "v": "1.5"}]], [3, [{"k": "", "v": None}]]], [], [[4, []]], [], [[5, [None]]], []],
    ),
]

TYPE_TEXTS = [
    (" struct < a :int64 , tags: list<utf8 ?> ? > ", None),
    ('struct<"plain": int8, "two words": bool, "q\\"u\\\\o": utf8>', None),
    ("struct< >", None),
    ("map<utf8,map<date,binary?>?>?", None),
    ("decimal( 38 , 0 )", None),
    ("timestamp(ns, Asia/Kathmandu)?", None),
    ("timestamp(us,-03:30)", None),
    ("list<" * 10 + "int64" + ">" * 10, None),
    ("", "empty"),
    ("int", "no such type"),
    ("Int64", "names are lower case"),
    ("int64??", "two question marks"),
    ("int64 utf8", "text after the type"),
    ("list<int64", "not closed"),
    ("list<>", "no element"),
    ("list<any>", "any stands only for a whole argument"),
    ("map<utf8?, int64>", "the key of a map is never null"),
    ("map<utf8>", "no value"),
    ("decimal(0,0)", "precision below 1"),
    ("decimal(39,1)", "precision above 38"),
    ("decimal(5,6)", "scale above precision"),
    ("decimal(5,-1)", "scale below 0"),
    ("decimal(5)", "no scale"),
    ("decimal", "no precision"),
    ("timestamp", "no unit"),
    ("timestamp(m)", "no such unit"),
    ("timestamp(us,)", "no zone"),
    ("struct<a b: int8>", "a name with a space wants quotes"),
    ("struct<1a: int8>", "a name that starts with a digit wants quotes"),
    ('struct<"a: int8>', "quote not closed"),
    ('struct<"a\\n": int8>', "no such escape"),
    ("struct<a int8>", "no colon"),
    ("list<" * 17 + "int64" + ">" * 17, "nested more than 16 deep"),
]


def fields(*types):
    return [{"name": f"c{i}", "type": t} for i, t in enumerate(types)]


def binding(arguments, key=(), states=()):
    return {"arguments": list(arguments), "key": list(key), "states": list(states)}


def bundle(name, kind, bound, rows, **meaning):
    m = {
        "function": 0, "operation": PROCESS, "rows": rows, "keys": 0, "watermark": NO_TIME, "processing_time": 0, "seed": 0,
        "arguments": [], "event_times": None, "row_kinds": None, "key_index": None, "key_columns": [], "states": [], "sources": [],
    }
    m.update(meaning)
    data = encode_bundle(kind, bound, m)
    assert decode_bundle(kind, bound, data) == m, name
    return {"name": name, "kind": kind, "binding": bound, "meaning": m, "hex": data.hex()}


def some_nulls(values, n):
    return [None if i % 3 == 1 else values[i % len(values)] for i in range(n)]


def bundles():
    for text, values in TYPES:
        yield bundle(f"column of {text}", "map", binding(fields(text)), 8, arguments=[values])
        nulls = some_nulls(values, 9)
        yield bundle(f"column of {text}?, 9 rows", "map", binding(fields(text + "?")), 9, arguments=[nulls])
        yield bundle(f"column of {text}?, all null", "map", binding(fields(text + "?")), 2, arguments=[[None, None]])
        yield bundle(f"column of {text}, no rows", "map", binding(fields(text)), 0, arguments=[[]])
    yield bundle("no arguments", "scalar", binding([]), 3)
    yield bundle(
        "header and row kinds", "scalar", binding(fields("int64", "utf8?")), 3, function=7, watermark=1357020000000,
        processing_time=1357020000500, seed=2**64 - 1, arguments=[[1, 2, 3], ["a", None, ""]],
        event_times=[1, NO_TIME, 3], row_kinds=[0, 1, 3],
    )
    yield from keyed_bundles()
    yield from aggregate_bundles()


def keyed_bundles():
    states = [
        {"name": "sum", "type": "int64", "access": "column"},
        {"name": "big", "type": "list<utf8>", "access": "call"},
        {"name": "last", "type": "struct<at: timestamp(ms), tags: list<utf8?>?>", "access": "column"},
    ]
    key = [{"name": "carrier", "type": "utf8"}, {"name": "tailnum", "type": "utf8?"}]
    row = [{"name": "row", "type": "struct<carrier: utf8, tailnum: utf8?, delay: float64?>"}]
    rows = [
        {"carrier": "UA", "tailnum": "N1", "delay": 2.0},
        {"carrier": "UA", "tailnum": None, "delay": None},
        {"carrier": "UA", "tailnum": "N1", "delay": 7.5},
    ]
    yield bundle(
        "process with key and states", "process", binding(row, key, states), 3, keys=2, arguments=[rows],
        event_times=[10, 20, 30], key_index=[0, 1, 0], key_columns=[["UA", "UA"], ["N1", None]],
        states=[[5, None], [{"at": 1, "tags": ["x", None]}, None]],
    )
    yield bundle(
        "process, nine keys", "process", binding(fields("bool"), [{"name": "k", "type": "int32"}], states[:1]), 9, keys=9,
        arguments=[[i % 2 == 0 for i in range(9)]], key_index=list(range(8, -1, -1)), key_columns=[list(range(9))],
        states=[[None if i == 8 else i for i in range(9)]],
    )
    reduced = [{"name": "reduced", "type": "struct<k: utf8, n: int64>", "access": "column"}]
    yield bundle(
        "reduce", "reduce", binding([{"name": "row", "type": "struct<k: utf8, n: int64>"}], [{"name": "k", "type": "utf8"}], reduced),
        2, keys=2, arguments=[[{"k": "a", "n": 1}, {"k": "b", "n": 2}]], key_index=[0, 1], key_columns=[["a", "b"]],
        states=[[{"k": "a", "n": 10}, None]],
    )


def aggregate_bundles():
    state = [{"name": "accumulator", "type": "struct<n: int64, sum: float64?>", "access": "column"}]
    bound = binding(fields("float64?"), [{"name": "k", "type": "utf8"}], state)
    acc = lambda n, s: {"n": n, "sum": s}
    held = [acc(1, 2.0), None]
    common = dict(keys=2, key_columns=[["a", "b"]], states=[held], sources=[None])
    for name, operation in (("accumulate", ACCUMULATE), ("retract", RETRACT)):
        yield bundle(
            f"aggregate: {name}", "aggregate", bound, 3, operation=operation, arguments=[[1.0, None, 3.0]], key_index=[1, 0, 1], **common
        )
    yield bundle(
        "aggregate: merge", "aggregate", bound, 3, operation=MERGE, arguments=[None], key_index=[0, 1, 1],
        **{**common, "sources": [[acc(4, None), None, acc(5, 6.0)]]},
    )
    yield bundle("aggregate: result", "aggregate", bound, 0, operation=RESULT, arguments=[[]], **common)
    yield bundle(
        "aggregate without a key", "aggregate", binding(fields("int64"), [], [{"name": "accumulator", "type": "int64", "access": "column"}]),
        2, operation=ACCUMULATE, keys=1, arguments=[[1, 2]], key_index=[0, 0], states=[[None]], sources=[None],
    )


def effects_of(name, kind, operation, rows, keys, result, declared=(), **meaning):
    m = {"status": 0, "output": [], "source_rows": None, "row_kinds": None, "states": [], "errors": []}
    m.update(meaning)
    data = encode_effects(result, declared, m)
    assert decode_effects(result, declared, keys, data) == m, name
    return {
        "name": name, "kind": kind, "operation": operation, "rows": rows, "keys": keys, "result": result,
        "states": list(declared), "meaning": m, "hex": data.hex(),
    }


def error(row, kind, message, traceback=""):
    return {"row": row, "kind": kind, "message": message, "traceback": traceback}


def effects():
    for text, values in TYPES:
        yield effects_of(f"output of {text}", "scalar", PROCESS, 8, 0, text, output=values)
        yield effects_of(f"output of {text}?", "scalar", PROCESS, 9, 0, text + "?", output=some_nulls(values, 9))
    yield effects_of("no rows", "map", PROCESS, 0, 0, "struct<a: int64>")
    yield effects_of("filter", "filter", PROCESS, 9, 0, "bool", output=[i % 3 == 0 for i in range(9)])
    yield effects_of(
        "row errors, one to one", "scalar", PROCESS, 3, 0, "int64", output=[1, 0, 0],
        errors=[
            error(1, "ZeroDivisionError", "division by zero", 'File "legs.py", line 3, in grade\n'),
            error(2, "panic", "größer als erlaubt"),
        ],
    )
    yield effects_of("every row failed, table", "table", PROCESS, 2, 0, "utf8", errors=[error(0, "ValueError", ""), error(1, "ValueError", "x")])
    yield effects_of(
        "table, more", "table", PROCESS, 4, 0, "struct<word: utf8, n: int32?>", status=1,
        output=[{"word": "a", "n": 1}, {"word": "b", "n": None}, {"word": "c", "n": 3}], source_rows=[0, 0, 2], row_kinds=[0, 1, 2],
    )
    states = [
        {"name": "sum", "type": "int64", "access": "column"},
        {"name": "big", "type": "list<utf8>", "access": "call"},
        {"name": "last", "type": "struct<at: timestamp(ms), tags: list<utf8?>?>", "access": "column"},
    ]
    written = {"values": [7, None, 3], "written": [True, True, False]}
    yield effects_of(
        "process, states written and cleared", "process", PROCESS, 3, 3, "utf8?", states, output=["x", None], source_rows=[0, 2],
        states=[written, {"values": [None, {"at": 5, "tags": ["x", None]}, {"at": 6, "tags": None}], "written": [True, True, True]}],
    )
    yield effects_of("process, one state written", "process", PROCESS, 1, 3, "utf8", states, states=[written, None])
    yield effects_of(
        "process, more: states absent", "process", PROCESS, 2, 3, "utf8", states, status=1, output=["y"], source_rows=[1],
        states=[None, None], errors=[error(0, "KeyError", "'k'")],
    )
    reduced = [{"name": "reduced", "type": "int64", "access": "column"}]
    yield effects_of(
        "reduce", "reduce", PROCESS, 3, 9, "int64", reduced, output=[1, 3, 6],
        states=[{"values": [6] + [None] * 8, "written": [True] + [False] * 8}],
    )
    acc = [{"name": "accumulator", "type": "struct<n: int64, sum: float64?>", "access": "column"}]
    folded = {"values": [{"n": 1, "sum": 2.5}, {"n": 2, "sum": None}], "written": [True, True]}
    for name, operation in (("accumulate", ACCUMULATE), ("retract", RETRACT), ("merge", MERGE)):
        yield effects_of(f"aggregate: {name}", "aggregate", operation, 2, 2, "float64?", acc, states=[folded])
    yield effects_of("aggregate: result", "aggregate", RESULT, 0, 2, "float64?", acc, output=[2.5, None], states=[None])
    yield effects_of(
        "aggregate: result with an error", "aggregate", RESULT, 0, 2, "float64?", acc, output=[2.5, None], states=[None],
        errors=[error(1, "ZeroDivisionError", "division by zero")],
    )


def values():
    for text, column in TYPES:
        for value in column[:4] + [column[-1]]:
            yield value_of(text, value)


def value_of(text, value):
    kind = parse(text)
    data = encode_value(kind, value)
    assert decode_value(kind, data) == (value, len(data)), text
    return {"type": text, "value": value, "hex": data.hex()}


def types():
    for text, why in [(t, None) for t, _ in TYPES] + TYPE_TEXTS:
        try:
            canonical = str(parse(text))
        except TypeText:
            assert why, f"{text} should be a type"
            yield {"text": text, "error": why}
            continue
        assert why is None, f"{text} should be an error: {why}"
        assert str(parse(canonical)) == canonical
        yield {"text": text, "canonical": canonical}


def written():
    document = {
        "version": "0.1.0", "bundles": list(bundles()), "effects": list(effects()), "values": list(values()), "types": list(types()),
    }
    parts = []
    for name, part in document.items():
        if isinstance(part, str):
            parts.append(f'"{name}": "{part}"')
        else:
            lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in part)
            parts.append(f'"{name}": [\n{lines}\n]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main():
    path, text = HERE / "frames.json", written()
    if sys.argv[1:] == ["--check"]:
        if path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is not what generate.py writes: run it and look at the difference")
    else:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
