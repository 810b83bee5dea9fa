"""The runner itself, as WebAssembly: what the host sees of a Python UDF."""

import decimal
import json
import random
import textwrap
from pathlib import Path

import frames
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
REFERENCE = (ROOT / "guests" / "reference" / "reference.py").read_text(encoding="utf-8")
LEGS = (ROOT / "guests" / "demo" / "legs.py").read_text(encoding="utf-8")


def guest(wasm, source, name="program.py", files=()):
    return wasm.Guest(textwrap.dedent(source), name, files)


def one(wasm, source, function, arguments, columns, **more):
    """Loads one function of a program and runs one bundle."""
    g = guest(wasm, source)
    g.load(dict(function=function, arguments=arguments, **more))
    return g.run(arguments=columns)


def reference(wasm, *bindings, **setup):
    g = wasm.Guest(REFERENCE, "guests/reference.py")
    g.load(*bindings, **setup)
    return g


# ---- describe and load

def test_describe(wasm):
    g = wasm.Guest(REFERENCE, "guests/reference.py")
    found = g.describe()
    shape = lambda f: (f.kind, [(a.name, getattr(a, "data-type")) for a in f.arguments], f.result)
    assert shape(found["or_else"]) == ("scalar", [("value", "int64?"), ("other", "int64")], "int64")
    assert shape(found["add"]) == ("scalar", [("i", "any"), ("j", "any")], "int64?")
    assert shape(found["Double"]) == ("map", [("value", "any")], "struct<k: utf8?, n: int64?>")
    assert shape(found["Positive"]) == ("filter", [("value", "any")], "bool")
    assert shape(found["split"]) == ("table", [("text", "utf8")], "struct<f0: utf8?, f1: int32?>")
    assert shape(found["Mean"]) == ("aggregate", [("value", "any"), ("weight", "any")], "float64?")
    assert found["Running"].kind == "process"
    assert [(s.name, getattr(s, "data-type"), s.access) for s in found["Running"].states] == [
        ("totals", "struct<count: int64?, sum: int64?>", "column"), ("text", "utf8", "column")
    ]
    assert [getattr(s, "data-type") for s in found["Mean"].states] == ["struct<sum: float64?, weight: float64?>"]
    assert found["length"].documentation == "The characters of a text; null in, null out."
    assert found["length"].deterministic and not found["dice"].deterministic
    assert not any(name.startswith("_") or name in ("Point", "log") for name in found)


@pytest.mark.parametrize(
    "source, message",
    [
        ("def f(:\n", "program.py:1: SyntaxError: invalid syntax"),
        ("x = 1\ny = nope\n", "program.py:2: NameError: name 'nope' is not defined"),
        ("import numpy\n", "program.py:1: ModuleNotFoundError: No module named 'numpy': numpy is native code"),
        ("\nimport acme_tools.web\n", "program.py:2: ModuleNotFoundError: No module named 'acme_tools': it does not travel with the UDF: name it among the UDF's `packages`"),
        (
            "from wasmill.datastream.state import MapStateDescriptor\n",
            "program.py:1: ImportError: wasmill.datastream.state.MapStateDescriptor: map state comes with a later version of Wasmill",
        ),
        ("from pyflink.common import Row\n", "program.py:1: ModuleNotFoundError: No module named 'pyflink': write wasmill in place of pyflink"),
        ("from wasmill.common import WatermarkStrategy\n", "program.py:1: ImportError: wasmill.common.WatermarkStrategy: Wasmill has it not in Python: sources, sinks"),
        ("from wasmill.table import Nope\n", "program.py:1: ImportError: cannot import name 'Nope' from 'wasmill.table': the SDK has functions, types and state only"),
        ("import wasmill.datastream.window\n", "program.py:1: ModuleNotFoundError: No module named 'wasmill.datastream.window': the SDK has functions"),
        ("import ssl\n", "program.py:1: ModuleNotFoundError: No module named 'ssl': the sandbox has no ssl"),
        ("raise SystemExit(4)\n", "program.py:1: SystemExit: 4"),
        ("def f():\n    f()\nf()\n", "program.py:2: RecursionError"),
        ("from wasmill import udf\nf = udf(3)\n", "program.py: f: @udf stands on something that cannot be called"),
        ("from wasmill import udf\n@udf\ndef f(a: set) -> int: ...\n", "program.py: f: the annotation set stands for no column type"),
        ("from wasmill import udf\nudf(lambda a: a, result_type='int')\n", "program.py:2: type 'int': there is no type 'int'"),
    ],
)
def test_a_program_that_does_not_load_says_where(wasm, source, message):
    with pytest.raises(wasm.Problem) as caught:
        guest(wasm, source)
    assert caught.value.message.startswith(message), caught.value.message
    assert "wasmill_" not in caught.value.traceback and "importlib" not in caught.value.traceback


PROGRAM = """
    from wasmill import KeyedProcessFunction, MapFunction, Types, ValueStateDescriptor, udf
    def plain(a: int) -> int:
        return a
    def helper(a) -> None: ...
    @udf
    def untyped(a):
        return a
    class NeedsKey(KeyedProcessFunction):
        def open(self, ctx):
            self.s = ctx.get_state(ValueStateDescriptor("s", Types.INT()))
    class Resource(MapFunction):
        def open(self, ctx):
            ctx.get_resource("missing.csv")
        def map(self, value): ...
    class Constructed(MapFunction):
        def __init__(self, n): ...
        def map(self, value): ...
    class Fails(MapFunction):
        def open(self, ctx):
            1 / 0
        def map(self, value): ...
"""


@pytest.mark.parametrize(
    "binding, message",
    [
        (dict(function="gone"), "program.py: there is no function 'gone' (there are: plain, untyped, NeedsKey, Resource, Constructed, Fails)"),
        (dict(function="helper"), "program.py: helper is no function that a job can use: its return annotation stands for no column type: correct that, or say @udf("),
        (dict(function="plain"), "program.py: plain takes 1 argument (a), the job gives 0"),
        (dict(function="plain", arguments=[("x", "utf8")]), "program.py: plain: argument 1 (a) wants int64, the job gives x: utf8"),
        (dict(function="untyped", arguments=[("x", "utf8")]), "program.py: untyped: the type of its result is unknown: annotate it"),
        (dict(function="untyped", arguments=[("x", "map<list<int8>, int8>")], result="int8"), "program.py: untyped: map<list<int8>, int8>: a dict"),
        (dict(function="NeedsKey", arguments=[("x", "utf8")], result="int8"), "program.py:11: RuntimeError: NeedsKey: state wants a keyed stream"),
        (dict(function="Resource", arguments=[("x", "utf8")], result="int8"), "program.py:14: KeyError: \"Resource: the job grants no resource"),
        (dict(function="Constructed", arguments=[("x", "utf8")]), "program.py: Constructed: the class must be made without arguments"),
        (dict(function="Fails", arguments=[("x", "utf8")], result="int8"), "program.py:21: ZeroDivisionError: division by zero"),
    ],
)
def test_a_binding_that_cannot_work_is_refused(wasm, binding, message):
    g = guest(wasm, PROGRAM)
    with pytest.raises(wasm.Problem) as caught:
        g.load(binding)
    assert caught.value.message.startswith(message), caught.value.message


def test_functions_that_cannot_be_used_are_told(wasm):
    g = guest(wasm, """
        def wave(a: int) -> complex:
            return a
        def typo(a: int) -> "int3":
            return a
        def late(a: int) -> Nope:
            return a
        def _helper(a) -> set: ...
        def done(a) -> None: ...
        def untold(a): ...
        def fine(a: int) -> "int32": ...
    """)
    assert list(g.describe()) == ["fine"]
    g.load(dict(function="fine", arguments=[("a", "int64")]))
    told = "program.py:{}: {} is no function that a job can use: {}: correct that, or say @udf(input_types=..., result_type=...), or begin its name with _ if it is a helper"
    assert g.log == [("warn", told.format(line, name, why)) for line, name, why in (
        (2, "wave", "the annotation complex stands for no column type"),
        (4, "typo", "the annotation 'int3' of the result is neither a Python type nor one in the notation of the contract, as \"int64?\": "
         "NameError: name 'int3' is not defined"),
        (6, "late", "the annotations cannot be resolved: NameError: name 'Nope' is not defined"),
    )]
    with pytest.raises(wasm.Problem, match="program.py:2: wave is no function that a job can use: the annotation complex"):
        guest(wasm, "\ndef wave(a: int) -> complex:\n    return a\n").describe()
    assert guest(wasm, "def helper(a) -> None: ...\n").describe() == {}


# ---- kinds

def test_scalars(wasm):
    g = reference(
        wasm,
        dict(function="length", arguments=[("t", "utf8?")]),
        dict(function="add", arguments=[("i", "int32"), ("j", "int32?")]),
        dict(function="make_point", arguments=[("x", "float64"), ("y", "int16")]),
        dict(function="in_berlin", arguments=[("at", "timestamp(ms,UTC)?")]),
        dict(function="decimal_half", arguments=[("d", "decimal(10,2)")]),
        dict(function="next_day", arguments=[("d", "date")]),
    )
    assert [l.result for l in g.loaded[:2]] == ["int64?", "int64?"]
    assert g.run(0, arguments=[["abc", None, "日本"]])["output"] == [3, None, 2]
    got = g.run(1, arguments=[[1, 2], [3, None]])
    assert got["output"][0] == 4 and [e["kind"] for e in got["errors"]] == ["TypeError"]
    assert "reference.py" in got["errors"][0]["traceback"]
    assert g.run(2, arguments=[[1.5], [2]])["output"] == [{"x": 1.5, "y": 2.0, "tags": ["a", "b"], "counts": [["n", 1]], "note": None}]
    assert g.run(3, arguments=[[1357020000123, None]])["output"] == [1357020000123000, None]
    assert g.run(4, arguments=[["12.35"]])["output"] == ["6.175000000000000000"]
    assert g.run(5, arguments=[[58]])["output"] == [59]


def test_rows_and_tables(wasm):
    row = [("row", "struct<k: utf8, n: int64>")]
    g = reference(
        wasm,
        dict(function="Double", arguments=row), dict(function="Positive", arguments=row), dict(function="Words", arguments=[("t", "utf8")]),
        dict(function="split", arguments=[("t", "utf8")]), dict(function="count_to", arguments=[("n", "int32")]),
        dict(function="Largest", arguments=row, key=[("k", "utf8")]),
    )
    rows = [{"k": "a", "n": 3}, {"k": "a", "n": -1}]
    assert g.run(0, arguments=[rows])["output"] == [{"k": "a", "n": 6}, {"k": "a", "n": -2}]
    assert g.run(1, arguments=[rows])["output"] == [True, False]
    assert g.run(2, arguments=[["a b", "", "c"]])["source_rows"] == [0, 0, 2]
    assert g.run(3, arguments=[["a bc"]])["output"] == [{"f0": "a", "f1": 1}, {"f0": "bc", "f1": 2}]
    got = g.run(4, arguments=[[300_000, 2]])
    assert len(got["output"]) == 300_002 and got["frames"] > 2
    got = g.run(5, arguments=[rows], keys=1, key_index=[0, 0], key_columns=[["a"]])
    assert got["output"] == [rows[0], rows[0]] and got["states"][0]["values"] == [rows[0]]


@pytest.mark.parametrize("access", ["column", "call"])
def test_process(wasm, access):
    binding = dict(function="Running", arguments=[("row", "struct<letter: utf8, n: int64>")], key=[("k", "utf8?")], access={"totals": access, "text": access})
    g = reference(wasm, binding)
    assert [s.access for s in g.loaded[0].states] == [access] * 2
    rows = [{"letter": l, "n": i} for i, l in enumerate("ab!c?d")]
    got = g.run(arguments=[rows], keys=2, key_index=[0, 1, 0, 0, 1, 1], key_columns=[["x", None]], event_times=[7] * 6)
    assert [(o["key"], o["count"], o["sum"], o["text"], o["at"]) for o in got["output"]] == [
        ("x", 1, 0, "a", 7), (None, 1, 1, "b", 7), ("x", 2, 3, "ac", 7), (None, 2, 5, "b?", 7), (None, 1, 5, "d", 7)
    ]
    assert [(e["row"], e["message"]) for e in got["errors"]] == [(2, "no shouting")]
    if access == "column":
        assert got["states"][1] == {"values": ["ac", "d"], "written": [True, True]}
    else:
        assert g.state[1, 0] == frames.encode_value(frames.parse("utf8"), "ac") 
        assert g.calls == ["get-many", "get-many", "put-many", "put-many"]
        again = g.run(arguments=[[{"letter": "z", "n": 1}]], keys=1, key_index=[0], key_columns=[["x"]])
        assert again["output"][0]["text"] == "acz" and g.calls[4:] == ["get", "get", "put", "put"]


def test_a_map_function_has_state_on_a_keyed_stream(wasm):
    source = """
        from wasmill import MapFunction, Types, ValueStateDescriptor
        class Numbered(MapFunction):
            result_type = "int64"
            def open(self, ctx):
                self.n = ctx.get_state(ValueStateDescriptor("n", Types.LONG()))
            def map(self, value):
                self.n.update((self.n.value() or 0) + 1)
                return 1 // value.ok and self.n.value()
    """
    g = guest(wasm, source)
    assert [s.name for s in g.describe()["Numbered"].states] == ["n"]
    g.load(dict(function="Numbered", arguments=[("r", "struct<ok: int64>")], key=[("k", "utf8")]))
    got = g.run(arguments=[[{"ok": 1}, {"ok": 0}, {"ok": 1}]], keys=1, key_index=[0, 0, 0], key_columns=[["a"]], states=[[7]])
    assert (got["output"][0], got["output"][2]) == (8, 9) and [e["row"] for e in got["errors"]] == [1]
    assert got["states"] == [{"values": [9], "written": [True]}]


def test_aggregate(wasm):
    g = reference(wasm, dict(function="Mean", arguments=[("v", "float64"), ("w", "float64")], key=[("k", "utf8")]))
    common = dict(keys=2, key_columns=[["a", "b"]])
    got = g.run(operation=1, arguments=[[1.0, 3.0], [1.0, 1.0]], key_index=[0, 0], **common)
    held = got["states"][0]["values"]
    assert held == [{"sum": 4.0, "weight": 2.0}, None] and got["states"][0]["written"] == [True, False]
    got = g.run(operation=3, rows=1, arguments=[None, None], key_index=[1], states=[held], sources=[[{"sum": 5.0, "weight": 1.0}]], **common)
    assert got["states"][0]["values"] == [None, {"sum": 5.0, "weight": 1.0}]
    assert g.run(operation=4, rows=0, arguments=[[], []], states=[held], **common)["output"] == [2.0, None]


def test_an_aggregate_of_pyflink_without_types(wasm):
    source = """
        from wasmill.datastream import AggregateFunction
        class Counts:
            def __init__(self):
                self.by_letter = {}
        class Average(AggregateFunction):
            def create_accumulator(self):
                return 0, 0, Counts()
            def add(self, value, accumulator):
                letters = accumulator[2].by_letter
                letters[value["l"]] = letters.get(value["l"], 0) + 1
                if value["l"] == "!":
                    raise ValueError("no shouting")
                return accumulator[0] + value["n"], accumulator[1] + 1, accumulator[2]
            def get_result(self, accumulator):
                return accumulator[0] / accumulator[1], len(accumulator[2].by_letter)
            def merge(self, a, b):
                return a[0] + b[0], a[1] + b[1], a[2]
    """
    g = guest(wasm, source)
    assert [(s.name, getattr(s, "data-type")) for s in g.describe()["Average"].states] == [("accumulator", "binary")]
    g.load(dict(function="Average", arguments=[("v", "struct<l: utf8, n: float64>")], key=[("k", "utf8")], result="struct<mean: float64, letters: int64>"))
    common = dict(keys=2, key_columns=[["a", "b"]])
    for rows in (5, 20):  # with the loops in C, and with those in bytecode
        values = [{"l": "xy!"[i % 3], "n": 0.5} for i in range(rows)]
        got = g.run(operation=1, arguments=[values], key_index=[0] * rows, **common)
        assert [e["message"] for e in got["errors"]] == ["no shouting"] * (rows // 3)
    held = got["states"][0]["values"]
    got = g.run(operation=3, rows=1, arguments=[None], key_index=[1], states=[held], sources=[[held[0]]], **common)
    assert got["states"][0]["written"] == [False, True] and held[1] is None
    merged = [held[0], got["states"][0]["values"][1]]
    out = g.run(operation=4, rows=0, arguments=[[]], states=[merged], **common)["output"]
    assert out == [{"mean": 0.5, "letters": 2}, {"mean": 0.5, "letters": 0}]


def test_the_demo(wasm):
    row = "struct<carrier: utf8, flight: int32, sched_dep: timestamp(us), dep_delay: int32?, arr_delay: int32?, tailnum: utf8?, grade: utf8, km: float64?>"
    g = wasm.Guest(LEGS, "legs.py")
    g.load(dict(function="Inherited", arguments=[("row", row)], key=[("tailnum", "utf8?")]))
    base = dict(carrier="UA", flight=1, sched_dep=5, grade="x", km=1.5)
    flight = lambda tail, dep, arr: dict(base, tailnum=tail, dep_delay=dep, arr_delay=arr)
    rows = [flight("N1", 20, 30), flight("N1", None, None), flight("N1", 16, 10), flight("N1", 20, None), flight("N1", 99, 16), flight("N1", 15, 0),
            flight(None, 50, 50), flight(None, 50, 50)]
    got = g.run(arguments=[rows], keys=2, key_index=[0] * 6 + [1] * 2, key_columns=[["N1", None]])
    assert not got["errors"]
    assert [o["inherited"] for o in got["output"]] == [False, False, True, False, False, False, False, False]


# ---- what goes wrong in a row

@pytest.mark.parametrize(
    "function, kind, message",
    [
        ("wrong_type", "TypeError", "reference.wrong_type: result: wants int64, got str 'text'"),
        ("too_big", "OverflowError", "reference.too_big: result: does not fit int64, got int 9223372036854775808"),
        ("recurses", "RecursionError", "maximum recursion depth exceeded"),
        ("exits", "SystemExit", "2"),
    ],
)
def test_row_errors(wasm, function, kind, message):
    g = reference(wasm, dict(function=function, arguments=[("n", "int64")]))
    for _ in range(2):
        (error,) = g.run(arguments=[[2]])["errors"]
        assert (error["kind"], error["message"]) == (kind, message)


def test_errors_name_file_line_and_source(wasm):
    g = reference(wasm, dict(function="divide", arguments=[("a", "int64"), ("b", "int64")]))
    (error,) = g.run(arguments=[[1], [0]])["errors"]
    line = REFERENCE.splitlines().index("    return a // b") + 1
    assert f'File "guests/reference.py", line {line}, in divide\n    return a // b' in error["traceback"]
    assert error["traceback"].count("File ") == 1


def test_recursion_through_c(wasm):
    source = """
        class Deep:
            def __eq__(self, other):
                return [self] == [Deep()]
        def g(n: int) -> bool:
            return Deep() == Deep()
        def h(n: int) -> int:
            v = []
            for _ in range(n):
                v = [v]
            return len(repr(v))
    """
    g = guest(wasm, source)
    g.load(dict(function="g", arguments=[("n", "int64")]), dict(function="h", arguments=[("n", "int64")]))
    assert [e["kind"] for e in g.run(0, arguments=[[1]])["errors"]] == ["RecursionError"]
    assert g.run(1, arguments=[[2]])["output"] == [6]


# ---- what the host gives

def test_print_and_logging(wasm):
    g = reference(wasm, dict(function="says", arguments=[("t", "utf8")]))
    g.run(arguments=[["x\ny"]])
    assert g.log == [("info", "printed x"), ("info", "y"), ("warn", "reference: logged x\ny")]
    g = guest(wasm, "import sys\ndef f(a: int) -> int:\n    print(a, end='')\n    sys.stderr.write('e')\n    return a\n")
    g.load(dict(function="f", arguments=[("a", "int64")]))
    g.run(arguments=[[1, 2]])
    assert g.log == [("info", "12"), ("warn", "ee")]


def test_the_bundle_s_seed_decides_chance(wasm):
    rolls = []
    for seed in (1, 2, 1):
        g = reference(wasm, dict(function="dice", arguments=[("n", "int64")]))
        rolls.append(g.run(arguments=[[10**9] * 4], seed=seed)["output"])
    assert rolls[0] == rolls[2] != rolls[1]
    assert g.run(arguments=[[10**9] * 4], seed=1)["output"] == rolls[0]


def test_chance_is_real_where_the_job_grants_it(wasm):
    g = reference(wasm, dict(function="dice", arguments=[("n", "int64")]))
    g.real_random = True
    first, second = (g.run(arguments=[[10**9] * 4], seed=1)["output"] for _ in range(2))
    assert first != second
    source = """
        {0}
        def roll(n: int) -> int:
            import random
            return random.randrange(n)
    """
    for first in ("", "import random\n        SALT = random.random()"):  # imported late, and used while the program loads
        rolls = []
        for seed in (1, 1, 2):
            g = guest(wasm, source.format(first))
            g.load(dict(function="roll", arguments=[("n", "int64")]))
            rolls.append([g.run(arguments=[[10**9] * 2], seed=seed)["output"] for _ in range(2)])
        assert rolls[0] == rolls[1] and rolls[0][0] == rolls[0][1] and rolls[2] != rolls[0]


def test_settings_resources_and_context(wasm):
    g = reference(
        wasm, dict(function="Concat", arguments=[("a", "utf8"), ("b", "utf8")], parameters={"separator": "+"}),
        dict(function="FromResource", arguments=[("n", "int64")]), resources={"lines.txt": b"zero\none\n"},
    )
    assert g.run(0, arguments=[["a"], ["b"]])["output"] == ["a+b"]
    got = g.run(1, arguments=[[1, 9]])
    assert got["output"][0] == "one" and got["errors"][0]["kind"] == "IndexError"


def test_a_file_that_is_not_there_says_how_to_read_a_resource(wasm):
    source = """
        import pathlib
        def plain(path: str) -> int:
            with open(path) as file:
                return 1
        def by_path(path: str) -> str:
            return pathlib.Path(path).read_text()
    """
    g = guest(wasm, source)
    g.load(*[dict(function=f, arguments=[("path", "utf8")]) for f in ("plain", "by_path")], resources={"res.txt": b"x"})
    for function in range(2):
        errors = g.run(function, arguments=[["res.txt", "data/other.txt"]])["errors"]
        assert [(e["kind"], e["message"].split("directory: ")[1]) for e in errors] == [("FileNotFoundError", text) for text in (
            "the job grants it as a resource, not as a file: runtime_context.get_resource('res.txt') gives its bytes, in the open() of a function "
            "class: 'res.txt'",
            "the sandbox has no files: name it in the UDF's `resources`; runtime_context.get_resource('other.txt') gives its bytes, in the open() of a "
            "function class: 'data/other.txt'",
        )]
        assert all("wasmill_files" not in e["traceback"] for e in errors)
    with pytest.raises(wasm.Problem, match="program.py:1: FileNotFoundError: .*the sandbox has no files: name it in the UDF's `resources`"):
        guest(wasm, "open('a')\n")


def test_modules_packages_and_data(wasm):
    files = {
        "udfs/helper.py": "from pack.inner import VALUE\nimport pkgutil\nDATA = pkgutil.get_data('pack', 'data.txt').decode()\n",
        "udfs/pack/__init__.py": "",
        "udfs/pack/inner.py": "from . import other\nVALUE = other.VALUE + 1\n",
        "udfs/pack/other.py": "VALUE = 41\ndef fail():\n    raise ValueError('inside')\n",
        "udfs/pack/data.txt": "some data",
        "udfs/spaces/deep/mod.py": "X = 5\n",
    }
    source = """
        import helper, spaces.deep.mod, pack.other
        def f(a: int) -> str:
            if a == 2:
                pack.other.fail()
            return f"{helper.VALUE} {helper.DATA} {spaces.deep.mod.X}"
    """
    g = guest(wasm, source, "udfs/program.py", files)
    g.load(dict(function="f", arguments=[("a", "int64")]))
    got = g.run(arguments=[[1, 2]])
    assert got["output"][0] == "42 some data 5"
    assert 'File "udfs/pack/other.py", line 3, in fail\n    raise ValueError(\'inside\')' in got["errors"][0]["traceback"]
    with pytest.raises(wasm.Problem, match=r"udfs/bad.py:2: ZeroDivisionError"):
        guest(wasm, "import bad\n", "udfs/program.py", {"udfs/bad.py": "\n1/0\n"})


def test_a_folder_that_is_itself_the_package(wasm):
    with pytest.raises(wasm.Problem, match="No module named 'mypkg': a folder among the UDF's `packages` is itself a package.*name the folder that contains it"):
        guest(wasm, "import mypkg\n", files={"__init__.py": "", "inner.py": ""})


def test_what_packages_ask_about_themselves(wasm):
    files = {
        "acme_tools/__init__.py": "import importlib.metadata, importlib.resources\n__version__ = importlib.metadata.version('acme-tools')\n"
        "TEXT = importlib.resources.files(__package__).joinpath('sub/a.txt').read_text()\n",
        "acme_tools/sub/a.txt": "inside",
        "acme_tools-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-tools\nVersion: 1.5\n",
    }
    g = guest(wasm, "import acme_tools\ndef f(a: int) -> str:\n    return acme_tools.__version__ + acme_tools.TEXT\n", files=files)
    g.load(dict(function="f", arguments=[("a", "int64")]))
    assert g.run(arguments=[[1]])["output"] == ["1.5inside"]


def test_a_pyflink_class_with_its_imports_changed(wasm):
    source = """
        from wasmill.common import Row, Types
        from wasmill.datastream import KeyedProcessFunction, RuntimeContext
        from wasmill.datastream.state import ValueStateDescriptor
        from wasmill.table import DataTypes
        from wasmill.table.udf import ScalarFunction, udf

        class Sum(KeyedProcessFunction):
            def __init__(self):
                self.state = None
            def open(self, runtime_context: RuntimeContext):
                self.state = runtime_context.get_state(ValueStateDescriptor("state", Types.FLOAT()))
            def process_element(self, value, ctx: 'KeyedProcessFunction.Context'):
                current = self.state.value()
                if current is None:
                    current = 0
                current += value[1]
                self.state.update(current)
                yield value[0], current, ctx.timer_service().current_watermark()

        class HashCode(ScalarFunction):
            def __init__(self):
                self.factor = 12
            def eval(self, s):
                return len(s) * self.factor

        hash_code = udf(HashCode(), result_type=DataTypes.BIGINT())
    """
    g = guest(wasm, source)
    g.load(
        dict(function="Sum", arguments=[("r", "struct<k: utf8, v: float32>")], key=[("k", "utf8")], result="struct<k: utf8, s: float32, w: int64>"),
        dict(function="hash_code", arguments=[("s", "utf8")]),
    )
    rows = [{"k": "a", "v": 1.5}, {"k": "a", "v": 2.0}]
    got = g.run(0, arguments=[rows], keys=1, key_index=[0, 0], key_columns=[["a"]], watermark=9)
    assert got["output"] == [{"k": "a", "s": 1.5, "w": 9}, {"k": "a", "s": 3.5, "w": 9}]
    assert g.run(1, arguments=[["abc"]])["output"] == [36]


def test_the_standard_library_is_there(wasm):
    text = (ROOT / "udf-sdk" / "python" / "runner" / "wasmill_preload.py").read_text(encoding="utf-8")
    source = "def f(name: str) -> bool:\n    import importlib\n    importlib.import_module(name)\n    return True\n"
    g = guest(wasm, source)
    g.load(dict(function="f", arguments=[("name", "utf8")]))
    modules = [m for m in text.split('"""')[3].split() if m != "wasmill.testing"]
    got = g.run(arguments=[modules])
    assert {modules[e["row"]]: e["message"] for e in got["errors"]} == {}


def test_no_memory_is_kept_by_bundles(wasm):
    source = """
        import sys, gc
        def f(text: str) -> str:
            return text.upper()
        def blocks(n: int) -> int:
            gc.collect()
            return sys.getallocatedblocks()
    """
    g = guest(wasm, source)
    g.load(dict(function="f", arguments=[("t", "utf8")]), dict(function="blocks", arguments=[("n", "int64")]))
    count = lambda: g.run(1, arguments=[[0]])["output"][0]
    run = lambda: g.run(0, arguments=[["some text", "ü" * 50, ""] * 300])
    for _ in range(3):
        run()
    before = count()
    for _ in range(50):
        run()
    assert count() - before < 50


# ---- golden vectors

def test_the_golden_bundles_come_in_whole(wasm):
    """Each column type of the vectors, through a function that shows what Python sees."""
    golden = json.loads((Path(frames.__file__).parent / "frames.json").read_text(encoding="utf-8"))
    vectors = [v for v in golden["bundles"] if v["kind"] == "map" and v["name"].startswith("column of") and "timestamp(ns)" not in v["name"]]
    g = wasm.Guest("from wasmill import udf\n@udf\ndef f(value):\n    return value\n", "program.py")
    g.load(*[dict(function="f", arguments=[("c", v["binding"]["arguments"][0]["type"])], result=v["binding"]["arguments"][0]["type"]) for v in vectors])
    for i, v in enumerate(vectors):
        got = g.run(i, arguments=v["meaning"]["arguments"])
        assert not got["errors"], (v["name"], got["errors"])
        assert repr(got["output"]) == repr(v["meaning"]["arguments"][0]), v["name"]


# ---- values that the codec reads and makes without asking their classes

@pytest.mark.parametrize("data_type", [
    "date", "time", "timestamp(s)", "timestamp(us)", "timestamp(ms,UTC)", "timestamp(us,Europe/Berlin)", "timestamp(us,-03:30)",
    "decimal(38,10)", "decimal(5,2)",
])
def test_times_and_decimals_are_what_python_says(wasm, data_type):
    import plain
    from wasmill.notation import parse

    rng, t = random.Random(7), parse(data_type)
    if t.name == "decimal":
        wide = decimal.Context(prec=60)
        digits = [digits for digits in range(1, t.params[0]) for _ in range(4)]
        values = [str(decimal.Decimal(rng.randrange(-(10**d), 10**d)).scaleb(-t.params[1], wide)) for d in digits]
        values += ["0E-2" if t.params[1] == 2 else "0E-10"]
    else:
        low, high = {"date": (-719162, 2932896), "time": (0, 86399999999)}.get(t.name, (-62000000000, 253000000000))
        unit = {"s": 1, "ms": 1000, "us": 10**6}[t.params[0]] if t.name == "timestamp" else 1
        values = [rng.randint(low * unit, high * unit) for _ in range(200)] + [rng.randint(0, 2**31 * unit) if t.name != "time" else 1 for _ in range(200)]
        values = [v for v in values if t.name != "date" or low <= v <= high]
    source = f"""
        from wasmill import udf
        @udf(result_type={data_type!r})
        def same(v): return v
        @udf(result_type="utf8")
        def shown(v): return str(v)
    """
    runner = guest(wasm, source)
    runner.load(dict(function="same", arguments=[("v", data_type)]), dict(function="shown", arguments=[("v", data_type)]))
    for rows in (values, values[:1]):
        got = runner.run(0, arguments=[rows])
        assert got["errors"] == [] and [plain.to_python(t, v) for v in got["output"]] == [plain.to_python(t, v) for v in rows]
        assert runner.run(1, arguments=[rows])["output"] == [str(plain.to_python(t, v)) for v in rows]
