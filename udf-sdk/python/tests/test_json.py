"""`json.loads` of the runner is the standard library's: it returns and raises the same, and looks the same."""

import inspect
import json
import os
import random
from pathlib import Path

import json_fuzz
import pytest

SEED = int(os.environ.get("WASMILL_FUZZ_SEED", random.randrange(1 << 32)))
STANDARD = json.loads


@pytest.fixture
def loads(codec):
    return codec.raw.json_loads(STANDARD, "json", "loads(s, *, cls=None, **kw)\n--\n\nAbout it.")


def test_it_gives_what_the_standard_one_gives(loads):
    print(f"WASMILL_FUZZ_SEED={SEED}")
    assert json_fuzz.check(loads, STANDARD, SEED, 3000) == []


def test_it_gives_what_the_standard_one_gives_in_the_runner(wasm):
    print(f"WASMILL_FUZZ_SEED={SEED}")
    guest = wasm.Guest(
        "import json, json_fuzz\n"
        "def check(seed: int) -> str:\n"
        "    standard = lambda s: json.loads(s, parse_int=None)\n"  # an argument by keyword is the standard function's
        "    return repr(json_fuzz.check(json.loads, standard, seed, 1500, deep=False))\n",
        files={"json_fuzz.py": Path(json_fuzz.__file__).read_text(encoding="utf-8")},
    )
    guest.load(dict(function="check", arguments=[("seed", "int64")]))
    got = guest.run(arguments=[[SEED]])
    assert got["errors"] == [] and got["output"] == ["[]"]


def test_it_looks_like_the_standard_one(loads, wasm):
    assert (loads.__name__, loads.__module__, loads.__doc__) == ("loads", "json", "About it.")
    assert str(inspect.signature(loads)) == "(s, *, cls=None, **kw)"
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        loads()
    assert loads('{"a": 1}', object_hook=len) == 1 and loads(s="1.5", parse_float=str) == "1.5"
    guest = wasm.Guest(
        "import inspect, json, pickle\n"
        "def look(a: int) -> str:\n"
        "    assert pickle.loads(pickle.dumps(json.loads)) is json.loads\n"
        "    return f'{json.loads.__module__}.{json.loads.__qualname__}{inspect.signature(json.loads)} {json.loads.__doc__[:23]}'\n"
    )
    guest.load(dict(function="look", arguments=[("a", "int64")]))
    signature = "(s, *, cls=None, object_hook=None, parse_float=None, parse_int=None, parse_constant=None, object_pairs_hook=None, **kw)"
    assert guest.run(arguments=[[1]])["output"] == [f"json.loads{signature} Deserialize ``s`` (a ``"]


def test_dicts_of_the_same_keys_are_not_the_same_dict(loads):
    """They are made as copies of a pattern."""
    source = '{"a": [1], "b": {"c": 2}}'
    one, two = loads(source), loads(source)
    one["a"].append(2)
    one["b"]["d"] = 3
    one["z"] = 0
    del one["a"]
    assert two == {"a": [1], "b": {"c": 2}} and loads(source) == two and list(one) == ["b", "z"]


def test_what_it_keeps_is_bounded_and_nothing_leaks(wasm):
    guest = wasm.Guest(
        "import gc, json, sys\n"
        "def leaks(n: int) -> str:\n"
        "    value, texts = object(), ['[1', '{\"a\": [1, {\"b\": 2.5}', '[' * 80 + ']' * 80, '{\"a\": \"x\\\\ud800\"}', '[\"\\\\ud83d\", 1]']\n"
        "    none, true, word = sys.getrefcount(None), sys.getrefcount(True), 'never immortal %d' % n\n"
        "    def run(times):\n"
        "        for i in range(times):\n"
        "            d = json.loads('{\"k\": [1, 2.5, \"xyz\", null, true], \"l\": {\"m\": %d}, \"n%d\": 1}' % (10**9 + i, i % 5000))\n"
        "            for text in texts:\n"
        "                try: json.loads(text)\n"
        "                except ValueError: pass\n"
        "    run(6000)\n"
        "    gc.collect(); before = len(gc.get_objects())\n"
        "    run(6000)\n"
        "    gc.collect(); return f'{len(gc.get_objects()) - before}'\n"
    )
    guest.load(dict(function="leaks", arguments=[("n", "int64")]))
    got = guest.run(arguments=[[1]])
    assert got["errors"] == [] and abs(int(got["output"][0])) < 20
