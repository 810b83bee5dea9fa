"""Recorded calls, run natively; and frames read in plain Python, against the golden vectors."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import frames as reference
import plain
import pytest
from wasmill import frames, replay
from wasmill.notation import parse

ROOT = Path(__file__).resolve().parent.parent.parent.parent
RECORD = ROOT / "tests" / "replays" / "v1" / "python"
VECTORS = json.loads((ROOT / "wit" / "vectors" / "frames.json").read_text())


def _types(fields):
    return [parse(f["type"]) for f in fields]


def _in_frame(binding):
    return [s for s in binding["states"] if s["access"] == "column"]


def _python(t, values):
    return [plain.to_python(t, plain.coarse(t, v)) for v in values]


def _same(t, got, want):
    if got is None:  # an operation that has no such column
        assert not want, (str(t), want)
        return
    assert plain.same(got, _python(t, want)), (str(t), got, want)


def _beyond_python(error):
    return isinstance(error, (OverflowError, ValueError)) and not isinstance(error, frames.FrameError)


@pytest.mark.parametrize("case", VECTORS["bundles"], ids=lambda c: c["name"])
def test_bundles_are_read_as_the_vectors_say(case):
    binding, meaning = case["binding"], case["meaning"]
    arguments, key, states = _types(binding["arguments"]), _types(binding["key"]), _types(_in_frame(binding))
    try:
        bundle = frames.Bundle(bytes.fromhex(case["hex"]), case["kind"], arguments, key, states)
    except Exception as error:
        assert _beyond_python(error), error  # a year that Python has not
        return
    for name in ("operation", "rows", "keys", "watermark", "processing_time", "seed"):
        assert getattr(bundle, name) == meaning[name], name
    for name in ("event_times", "row_kinds", "key_index"):
        got = getattr(bundle, name)
        assert (None if got is None else list(got)) == meaning[name], name
    columns = [(arguments, bundle.arguments, meaning["arguments"]), (key, bundle.key_columns, meaning["key_columns"])]
    nullable = [t.as_nullable() for t in states]
    columns.append((nullable, bundle.states, meaning["states"]))
    if case["kind"] == "aggregate":
        columns.append((nullable, bundle.sources, meaning["sources"]))
    for types, got, want in columns:
        for t, one, other in zip(types, got, want):
            _same(t, one, other)


def test_values_are_read_as_the_vectors_say():
    for case in VECTORS["values"]:
        t, data = parse(case["type"]), bytes.fromhex(case["hex"])
        try:
            got = frames.value(t, data)
        except Exception as error:
            assert _beyond_python(error), (case, error)
            continue
        _same(t, [got], [reference.decode_value(reference.parse(case["type"]), data)[0]])
        if data:
            with pytest.raises(frames.FrameError):
                frames.value(t, data[:-1])


def _run(*arguments, given=""):
    done = subprocess.run(
        [sys.executable, "-m", "wasmill.replay", *map(str, arguments)], input=given, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT / "udf-sdk" / "python" / "src")}, check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_it_fails_as_it_did_with_its_state_shown():
    code, out, err = _run(RECORD)
    assert (code, err) == (1, ""), err
    assert "key 0: 'pen': sum = 200" in out
    assert "row 1 (key 0): value = Row(item='pen', price=9, pieces=0)" in out
    assert "row 1: ZeroDivisionError: " in out and "totals.py\", line 16, in process_element" in out
    assert "wasmill/testing.py" not in out, "our own frames help nobody"
    assert "row 0: Row(item='pen', sum=500)" in out and out.endswith("fails as it did\n")
    assert not list(RECORD.rglob("__pycache__")), "the record stays as it is"


def _mended(folder):
    text = (RECORD / "source" / "totals.py").read_text()
    path = folder / "totals.py"
    path.write_text(text.replace("// value.pieces", "// (value.pieces or 1)"))
    return path


def test_another_version_runs_well(tmp_path):
    code, out, err = _run(RECORD, "--udf", _mended(tmp_path))
    assert (code, err) == (0, ""), err
    assert "row 1: Row(item='pen', sum=1400)" in out and out.endswith("runs well\n")


def test_pdb_stops_where_it_raises():
    code, out, _ = _run(RECORD, "--pdb", given="p value.price\np self.sum.value()\nq\n")
    assert code == 1
    assert "(Pdb) 9\n" in out and "(Pdb) 500\n" in out, out
    assert out.endswith("fails as it did\n")


def test_pdb_stops_at_the_first_line_of_a_row(tmp_path):
    code, out, _ = _run(RECORD, "--udf", _mended(tmp_path), "--stop-at", 1, given="p value.price\nc\n")
    assert code == 0, out
    assert "process_element()" in out and "(Pdb) 9\n" in out and "(Pdb) 12\n" not in out, out


def _damaged(folder, name, change):
    copied = folder / "record"
    shutil.copytree(RECORD, copied)
    path = copied / name
    path.write_bytes(change(path.read_bytes()))
    return copied


@pytest.mark.parametrize(
    "name, change, told",
    [
        ("replay.json", lambda b: b[:40], "replay.json is damaged"),
        ("replay.json", lambda b: b.replace(b'"version": 1', b'"version": 9'), "is of version 9, and this SDK reads up to 1"),
        ("bundle.frame", lambda b: b[:-64], "it was cut"),
        ("bundle.frame", lambda b: b[:-1], "it was cut"),
        ("replay.json", lambda b: b.replace(b'"type": "int64"', b'"type": "utf8"'), "it is a frame of other types"),
        ("replay.json", lambda b: b.replace(b'"name": "Totals"', b'"name": "Totalz"'), "has no function 'Totalz'; it has Totals"),
        ("replay.json", lambda b: b.replace(b'"totals.py"', b'"gone.py"'), "there is no Python file"),
    ],
)
def test_what_cannot_be_run_is_told(tmp_path, name, change, told):
    code, _, err = _run(_damaged(tmp_path, name, change))
    assert code == 2 and err.startswith("error: ") and told in err, err


def test_a_state_of_another_type_is_told(tmp_path):
    path = _mended(tmp_path)
    path.write_text(path.read_text().replace("Types.LONG()", "Types.STRING()"))
    told = "error: state 'sum' is utf8 in this version, and its recorded values are int64\n"
    assert _run(RECORD, "--udf", path) == (2, "", told)


def test_a_program_that_does_not_load_is_told(tmp_path):
    path = tmp_path / "totals.py"
    path.write_text("import nowhere_to_be_found\n")
    code, _, err = _run(RECORD, "--udf", path)
    assert code == 2 and "totals.py\", line 1" in err and err.endswith("error: the UDF does not load natively\n"), err


def test_no_record_is_told(tmp_path):
    assert _run(tmp_path) == (2, "", f"error: cannot read {tmp_path}/replay.json: No such file or directory\n")


def test_random_numbers_are_those_of_the_bundle():
    import random

    replay.seed_random(7)
    first = random.random()
    replay.seed_random(7)
    assert random.random() == first
    replay.seed_random(8)
    assert random.random() != first


def test_aggregates_and_states_behind_calls(tmp_path, monkeypatch):
    """Made up by the reference, since no job of the tests fails so."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "means.py").write_text(
        "from wasmill import AggregateFunction\n"
        "class Mean(AggregateFunction):\n"
        "    def create_accumulator(self) -> 'struct<n: int64, sum: int64>':\n        return (0, 0)\n"
        "    def accumulate(self, held, x: int):\n        return (held.n + 1, held.sum + x)\n"
        "    def get_value(self, held) -> float:\n        return held.sum / held.n\n"
    )
    state = {"name": "accumulator", "type": "struct<n: int64, sum: int64>", "by_call": False}
    function = {
        "name": "Mean", "kind": "aggregate", "arguments": [{"name": "x", "type": "int64"}], "key": [], "result": "float64",
        "wanted_result": None, "states": [state], "parameters": [],
    }
    udf = {"name": "u", "source": ["means.py"], "resources": [], "real_random": False}
    failure = {"kind": "ZeroDivisionError", "message": "division by zero", "row": 1}
    record = {
        "version": 1, "job": "j", "node": "n", "subtask": 0, "parallelism": 1, "bundle": 1, "udf": udf, "function": function,
        "failure": failure,
    }
    (tmp_path / "replay.json").write_text(json.dumps(record))
    binding = {"arguments": function["arguments"], "key": [], "states": [{**state, "access": "column"}]}
    meaning = {
        "function": 0, "operation": frames.RESULT, "rows": 0, "keys": 2, "watermark": 0, "processing_time": 0, "seed": 0,
        "arguments": [None], "event_times": None, "row_kinds": None, "key_index": None, "key_columns": [],
        "states": [[{"n": 2, "sum": 5}, {"n": 0, "sum": 0}]], "sources": [None],
    }
    (tmp_path / "bundle.frame").write_bytes(reference.encode_bundle("aggregate", binding, meaning))
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert replay.main([str(tmp_path)]) == 1
    assert "row 0: 2.5" in out.getvalue() and out.getvalue().endswith("fails as it did\n"), out.getvalue()
