"""The golden vectors of wit/: what the codec reads is what they say, and what it writes are their bytes."""

import json
import subprocess
import sys
from pathlib import Path

import frames
import plain
import pytest
from wasmill.notation import TypeNotationError, parse

VECTORS = Path(frames.__file__).parent
GOLDEN = json.loads((VECTORS / "frames.json").read_text(encoding="utf-8"))


def named(part):
    return [pytest.param(v, id=v.get("name") or f"{v.get('type', v.get('text'))} {i}") for i, v in enumerate(GOLDEN[part])]


def test_the_file_is_what_the_generator_writes():
    subprocess.run([sys.executable, str(VECTORS / "generate.py"), "--check"], check=True)


@pytest.mark.parametrize("vector", named("types"))
def test_types(vector):
    if "error" in vector:
        with pytest.raises(TypeNotationError):
            parse(vector["text"])
    else:
        assert str(parse(vector["text"])) == vector["canonical"]
        assert str(frames.parse(vector["text"])) == vector["canonical"]


@pytest.mark.parametrize("vector", named("values"))
def test_values(codec, vector):
    t = parse(vector["type"])
    data = bytes.fromhex(vector["hex"])
    value = plain.to_python(t, vector["value"])
    assert plain.same(codec.raw.decode_value(t.compiled(), data), value)
    if plain.coarse(t, vector["value"]) == vector["value"]:
        assert codec.raw.encode_value(t.compiled(), value).hex() == vector["hex"]


def function_of(codec, vector, call, calls=None):
    b = vector["binding"]
    result = {"filter": "bool", "reduce": b["arguments"][0]["type"] if b["arguments"] else "int64"}.get(vector["kind"], "int64?")
    return codec(
        vector["kind"], call, [a["type"] for a in b["arguments"]], result, [k["type"] for k in b["key"]],
        [(s["name"], s["type"], s["access"]) for s in b["states"]], calls,
    )


@pytest.mark.parametrize("vector", named("bundles"))
def test_bundles(codec, vector):
    m, seen = vector["meaning"], []
    if m["function"]:
        pytest.skip("the codec numbers its functions itself")
    arguments = [parse(a["type"]) for a in vector["binding"]["arguments"]]
    note = lambda *values: seen.append(list(values[: len(arguments)]))
    if vector["kind"] in ("aggregate", "reduce"):
        pytest.skip("test_folding has these")
    codec_function = function_of(codec, vector, note)
    effects = codec_function.read(codec.raw.run_frame(bytes.fromhex(vector["hex"])), m["keys"])
    assert not effects["errors"]
    wanted = [[plain.to_python(t, column[row]) for t, column in zip(arguments, m["arguments"])] for row in range(m["rows"])]
    assert len(seen) == len(wanted) and all(map(plain.same, seen, wanted))


@pytest.mark.parametrize("vector", [v for v in named("effects") if v.values[0]["kind"] in ("scalar", "map", "filter")])
def test_effects_one_to_one(codec, vector):
    m, t = vector["meaning"], parse(vector["result"])
    if m["errors"] or plain.coarse(parse(f"list<{t}>"), m["output"]) != m["output"]:
        pytest.skip("a traceback is not ours to choose; a nanosecond is not Python's")
    outputs = iter([plain.to_python(t, v) for v in m["output"]])
    function = codec(vector["kind"], lambda row: next(outputs), ["int8"], vector["result"])
    meaning = dict(rows=vector["rows"], arguments=[[0] * vector["rows"]])
    got = function.run_bytes({
        "function": 0, "operation": 0, "keys": 0, "watermark": 0, "processing_time": 0, "seed": 0, "event_times": None, "row_kinds": None,
        "key_index": None, "key_columns": [], "states": [], "sources": [], **meaning,
    })
    assert got.hex() == vector["hex"]
