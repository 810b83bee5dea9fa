"""What a module offers: kinds, types from annotations, and the messages when they cannot be had."""

import dataclasses
import datetime
import decimal
import sys
import types
from typing import Annotated, Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypedDict, Union

import pytest
import wasmill
from wasmill import DataTypes, MapFunction, Row, Types, binding, udf
from wasmill.annotations import AnnotationError, of_annotation
from wasmill.declare import DeclarationError, declare, functions_of
from wasmill.notation import TypeNotationError
from wasmill.types import resolve


class Named(NamedTuple):
    a: int
    b: Optional[str]


@dataclasses.dataclass
class Data:
    when: datetime.datetime
    inner: Named


class Typed(TypedDict):
    x: float


@pytest.mark.parametrize(
    "annotation, text",
    [
        (int, "int64"), (float, "float64"), (str, "utf8"), (bytes, "binary"), (bool, "bool"), (datetime.date, "date"), (datetime.time, "time"),
        (datetime.datetime, "timestamp(us)"), (decimal.Decimal, "decimal(38,18)"), (Optional[int], "int64?"), (Union[None, str], "utf8?"),
        (List[int], "list<int64>"), (list[Optional[str]], "list<utf8?>"), (Sequence[float], "list<float64>"), (Tuple[int, ...], "list<int64>"),
        (Tuple[int, str], "struct<f0: int64, f1: utf8>"), (Dict[str, Optional[float]], "map<utf8, float64?>"), (Named, "struct<a: int64, b: utf8?>"),
        (Optional[Data], "struct<when: timestamp(us), inner: struct<a: int64, b: utf8?>>?"), (Typed, "struct<x: float64>"),
        (Annotated[decimal.Decimal, "decimal(10,2)"], "decimal(10,2)"), (Annotated[Optional[int], "int8"], "int8?"), ("int16?", "int16?"),
    ],
)
def test_annotations(annotation, text):
    assert str(of_annotation(annotation)) == text


@pytest.mark.parametrize("annotation", [list, dict, set, Any, object, Union[int, str], Optional[Union[int, str]], complex, Iterator[int]])
def test_annotations_that_stand_for_no_column(annotation):
    with pytest.raises(AnnotationError):
        of_annotation(annotation)


@pytest.mark.parametrize(
    "what, text",
    [
        (Types.INT(), "int32?"), (Types.BIG_DEC(), "decimal(38,18)?"), (Types.SQL_TIMESTAMP(), "timestamp(us)?"), (Types.ROW([Types.BYTE()]), "struct<f0: int8?>?"),
        (Types.ROW_NAMED(["a"], [Types.STRING()]), "struct<a: utf8?>?"), (Types.MAP(Types.STRING(), Types.LIST(Types.LONG())), "map<utf8, list<int64?>?>?"),
        (Types.PRIMITIVE_ARRAY(Types.BYTE()), "binary?"), (Types.PRIMITIVE_ARRAY(Types.DOUBLE()), "list<float64>?"),
        (DataTypes.BIGINT(), "int64?"), (DataTypes.BIGINT(False), "int64"), (DataTypes.INT().not_null(), "int32"), (DataTypes.DECIMAL(10, 2), "decimal(10,2)?"),
        (DataTypes.TIMESTAMP(3), "timestamp(ms)?"), (DataTypes.TIMESTAMP_LTZ(9), "timestamp(ns,UTC)?"), (DataTypes.VARCHAR(10), "utf8?"),
        (DataTypes.ROW([DataTypes.FIELD("a", DataTypes.ARRAY(DataTypes.DATE()))]), "struct<a: list<date?>?>?"), ("BIGINT", "int64?"), ("int64", "int64"),
        (Optional[int], "int64?"),
    ],
)
def test_types(what, text):
    assert str(resolve(what)) == text


@pytest.mark.parametrize(
    "make, error",
    [
        (Types.PICKLED_BYTE_ARRAY, TypeNotationError), (lambda: DataTypes.DECIMAL(39, 1), TypeNotationError), (lambda: DataTypes.TIMESTAMP(10), ValueError),
        (lambda: Types.ROW_NAMED(["a"], []), ValueError), (lambda: resolve("varchar"), TypeNotationError),
        (lambda: udf(func_type="pandas"), NotImplementedError), (lambda: udf(kind="maps"), DeclarationError),
    ],
)
def test_what_is_refused(make, error):
    with pytest.raises(error):
        make()


def module_of(source):
    module = types.ModuleType("made")
    sys.modules["made"] = module
    exec(source, module.__dict__)
    return module


def test_functions_of_a_module():
    skipped = {}
    found = functions_of(module_of("""
from wasmill import *
from typing import *
import math
from wasmill.functions import MapFunction as Imported
def plain(a: int, b) -> float: return 1.0
def no_return(a: int): return a
def _private(a: int) -> int: return a
def helper(a) -> None: ...
def odd(a: set) -> int: ...
lambda_ = udf(lambda x: x, result_type="int8")
renamed = udf(lambda x: x, result_type="int8", name="other")
def rows(n: int) -> Iterator[str]: yield "x"
@udf
def generated(n): yield 1
class Base(MapFunction): pass
class Real(Base):
    "Documented.\\n\\nMore."
    def map(self, value: "NotThere") -> int: return 1
instance = Real()
"""), skipped)
    shown = {n: (d.kind, str(d.result)) for n, d in found.items()}
    assert shown == {
        "plain": ("scalar", "float64"), "lambda_": ("scalar", "int8"), "other": ("scalar", "int8"), "rows": ("table", "utf8"),
        "generated": ("table", "None"), "Real": ("map", "int64"), "instance": ("map", "int64"),
    }
    assert found["Real"].documentation == "Documented." and found["plain"].documentation == ""
    assert set(skipped) == {"helper", "odd"}
    assert found["plain"].required == [True, False]


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
def test_annotations_in_the_notation_of_the_contract(future):
    found = functions_of(module_of(f"""
{future}
import dataclasses
from wasmill import *
from typing import *
class Named(NamedTuple):
    a: "int32"
    b: Optional[int]
@dataclasses.dataclass
class Data:
    a: "list<int8>"
def f(a: "int32?", b: "int8", c: int) -> "int32": ...
def g(a: "struct<a: int64>") -> "struct<a: int64, b: utf8?>": ...
def rows(a) -> "float32":
    yield a
def named(a) -> Named: ...
def data(a) -> "Data": ...
class M(MapFunction):
    def map(self, value: "NotThere") -> "uint8": ...
"""))
    assert {n: str(d.result) for n, d in found.items()} == {
        "f": "int32", "g": "struct<a: int64, b: utf8?>", "rows": "float32", "named": "struct<a: int32, b: int64?>", "data": "struct<a: list<int8>>",
        "M": "uint8",
    }
    assert [str(t) for _, t in found["f"].arguments] == ["int32?", "int8", "int64"] and found["f"].required == [False, True, True]


def test_two_functions_of_one_name_are_refused():
    source = """
from wasmill import *
@udf(name="x")
def a(n: int) -> int: return n
class C(MapFunction):
    def map(self, value): ...
{}
"""
    for second, shown in (('@udf(name="x")\ndef b(n: int) -> int: return n', r"b \(line 7\)"), ('b = udf(C(), name="x")', "b"), ("def x(n: int) -> int: ...", r"x \(line 7\)")):
        with pytest.raises(DeclarationError, match=rf"two functions are called 'x': a \(line 3\) and {shown}: give one another name="):
            functions_of(module_of(source.format(second)))
    assert list(functions_of(module_of(source.format("again = a")))) == ["x", "C"]


def test_the_result_of_a_row_function_is_never_a_null_row():
    class F(MapFunction):
        result_type = Types.ROW_NAMED(["a"], [Types.INT()])

        def map(self, value): ...

    assert str(declare("F", F).result) == "struct<a: int32?>"


@pytest.mark.parametrize(
    "source, message",
    [
        ("from wasmill import *\nclass F(MapFunction):\n def map(self): ...", "F: map must take 1 arguments, it takes 0"),
        ("from wasmill import *\nclass F(ScalarFunction): ...", "F: the class lacks the method eval()"),
        ("from wasmill import *\n@udf\ndef f(a: 'Nope') -> int: ...", "f: the annotation 'Nope' of a is neither a Python type nor one in the notation of the contract"),
        ("from wasmill import *\n@udf(result_type='int64')\ndef f(a: set): ...", "f: the annotation set stands for no column type"),
        ("from wasmill import *\nclass F(KeyedProcessFunction):\n def process_element(self, value): ...", "F: process_element must take 2 arguments, it takes 1"),
    ],
)
def test_declarations_that_cannot_work(source, message):
    with pytest.raises(DeclarationError) as caught:
        functions_of(module_of(source))
    assert str(caught.value).startswith(message)


def test_what_pyflink_imports_is_there():
    from wasmill.common.typeinfo import Types as T
    from wasmill.datastream.functions import KeyedProcessFunction, RuntimeContext  # noqa: F401
    from wasmill.datastream.state import ValueStateDescriptor  # noqa: F401
    from wasmill.table.udf import AggregateFunction, ScalarFunction, TableFunction, udaf, udf, udtf  # noqa: F401

    assert T is wasmill.Types and Row is wasmill.Row


@pytest.mark.parametrize("module", ["wasmill", "wasmill.datastream", "wasmill.datastream.state", "wasmill.datastream.functions"])
def test_importing_what_comes_later_says_so(module):
    with pytest.raises(ImportError, match=f"{module}.ListStateDescriptor: list state comes with a later version of Wasmill; value state is there"):
        exec(f"from {module} import ListStateDescriptor")
    with pytest.raises(ImportError, match="time to live of state comes with a later version"):
        exec(f"from {module} import StateTtlConfig")
    with pytest.raises(ImportError, match="cannot import name 'Nope'"):
        exec(f"from {module} import Nope")
    assert not hasattr(sys.modules[module], "nope")


@pytest.mark.parametrize("module, name, why", [
    ("wasmill.common", "WatermarkStrategy", "sources, sinks, watermarks, windows and settings are said in the job file"),
    ("wasmill.table", "EnvironmentSettings", "said in the job file"), ("wasmill.datastream", "StreamExecutionEnvironment", "said in the job file"),
    ("wasmill.datastream.functions", "CoProcessFunction", "Wasmill has no such function yet"), ("wasmill.common.typeinfo", "Duration", "the job file"),
])
def test_importing_what_is_not_for_functions_says_so(module, name, why):
    with pytest.raises(ImportError, match=f"{module}.{name}: .*{why}"):
        exec(f"from {module} import {name}")


def test_a_job_gives_the_arguments_that_have_defaults_too():
    found = functions_of(module_of("def f(a: int, b: int = 3) -> int:\n    return a + b\n"))
    with pytest.raises(binding.BindingError, match=r"f takes 2 arguments \(a, b\), the job gives 1; b has a default, but a job gives every argument"):
        binding.bind(found["f"], [("x", resolve("int64"))])


@pytest.mark.parametrize("then", ["1 / 0", "raise SystemExit", "ctx.get_resource('x.csv')", "pass"])
def test_states_are_told_as_far_as_open_goes(then):
    found = functions_of(module_of(f"""
from wasmill import *
class F(KeyedProcessFunction):
    def open(self, ctx):
        self.a = ctx.get_state(ValueStateDescriptor("a", Types.INT()))
        step = int(ctx.get_job_parameter("step", "1"))
        {then}
        self.b = ctx.get_state(ValueStateDescriptor("b", "list<utf8>"))
"""))
    wanted = [("a", "int32"), ("b", "list<utf8>")][: 2 if then == "pass" else 1]
    assert [(n, str(t)) for n, t in binding.states_without_running(found["F"])] == wanted
