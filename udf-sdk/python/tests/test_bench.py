"""The functions that are measured compute what they say."""

import json
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent.parent.parent / "guests" / "bench" / "bench.py"


def test_functions_that_are_measured(wasm):
    def guest(**binding):
        made = wasm.Guest(BENCH.read_text(encoding="utf-8"), "bench.py")
        made.load(binding)
        return made

    assert guest(function="one_more", arguments=[("i", "int64")]).run(arguments=[[1, 2]])["output"] == [2, 3]
    documents = [json.dumps({"id": i, "name": f"näme {i}", "tags": ["a", None]}, ensure_ascii=i % 2 == 0) for i in range(20)]
    assert guest(function="name_of", arguments=[("d", "utf8")]).run(arguments=[documents])["output"] == [f"NÄME {i}" for i in range(20)]
    assert guest(function="OneMore", arguments=[("v", "struct<i: int64>")]).run(arguments=[[{"i": 5}, {"i": 6}]])["output"] == [6, 7]


def test_averages_and_summaries(wasm):
    rows, keys = 40, 3
    index, values = [i % keys for i in range(rows)], [float(i * i % 17) for i in range(rows)]
    average = wasm.Guest(BENCH.read_text(encoding="utf-8"), "bench.py")
    average.load(dict(function="KeyedAverage", arguments=[("v", "struct<key: int64, value: float64>")], key=[("key", "int64")]))
    got = average.run(
        arguments=[[{"key": k, "value": v} for k, v in zip(index, values)]], keys=keys, key_index=index, key_columns=[list(range(keys))],
        states=[[None, 1.5, None], [None, 1, None]],
    )
    sums, counts, means = [0.0, 1.5, 0.0], [0, 1, 0], []
    for k, v in zip(index, values):
        sums[k] += v
        counts[k] += 1
        means.append(sums[k] / counts[k])
    assert got["output"] == means
    assert got["states"] == [{"values": sums, "written": [True] * keys}, {"values": counts, "written": [True] * keys}]
    summary = wasm.Guest(BENCH.read_text(encoding="utf-8"), "bench.py")
    summary.load(dict(function="Summarise", arguments=[("v", "float64")]))
    state = summary.run(operation=1, arguments=[values], keys=keys, key_index=index)["states"][0]["values"]
    of_key = [[v for k, v in zip(index, values) if k == key] for key in range(keys)]
    assert state == [{"count": len(v), "sum": sum(v), "max": max(v)} for v in of_key]
    assert summary.run(operation=4, rows=0, arguments=[[]], keys=keys, states=[state])["output"] == state
