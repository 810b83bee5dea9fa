"""What a module offers: decorators, and the search for functions."""

import functools
import inspect

from . import functions as f
from .annotations import AnnotationError, hints_of, is_open, is_optional, item_of_iterator, of_annotation, signature_of
from .notation import DataType, TypeNotationError
from .types import resolve

KINDS = ("scalar", "vectorized", "table", "filter", "map", "reduce", "aggregate", "process")
ROW_KINDS = ("filter", "map", "reduce", "process")

# The base class says the kind and the method that is called with a row.
_BASES = (
    (f.MapFunction, "map", "map"),
    (f.FlatMapFunction, "table", "flat_map"),
    (f.FilterFunction, "filter", "filter"),
    (f.ReduceFunction, "reduce", "reduce"),
    (f.ScalarFunction, "scalar", "eval"),
    (f.TableFunction, "table", "eval"),
    (f.AggregateFunction, "aggregate", "accumulate"),
    (f.KeyedProcessFunction, "process", "process_element"),
    (f.ProcessFunction, "process", "process_element"),
)


class DeclarationError(TypeError):
    """A function is declared in a way that cannot work."""


class UserFunction:
    """A function with what its decorator says of it. Calling it calls the function, so tests need nothing special."""

    def __init__(self, target, result_type=None, kind=None, deterministic=None, accumulator_type=None, name=None, input_types=None):
        self.target, self.kind, self.deterministic, self.name = target, kind, deterministic, name
        self.result_type = None if result_type is None else _result_of(result_type)
        self.accumulator_type = None if accumulator_type is None else resolve(accumulator_type)
        self.input_types = None if input_types is None else [resolve(t) for t in _listed(input_types)]
        if inspect.isfunction(target):
            functools.update_wrapper(self, target)

    def __call__(self, *args, **kwargs):
        if inspect.isclass(self.target):
            return self.target(*args, **kwargs)
        if isinstance(self.target, f.Function):
            return self.target.eval(*args, **kwargs)
        return self.target(*args, **kwargs)


def _listed(what):
    return list(what) if isinstance(what, (list, tuple)) else [what]


def _result_of(result_type):
    """Several types, as `udtf(result_types=[…])` has them, are the fields of a row."""
    if isinstance(result_type, (list, tuple)):
        types = [resolve(t) for t in result_type]
        return types[0] if len(types) == 1 else DataType("struct", fields=[(f"f{i}", t) for i, t in enumerate(types)])
    return resolve(result_type)


def udf(target=None, input_types=None, result_type=None, deterministic=None, name=None, func_type="general", udf_type=None, kind=None):
    """Makes a UDF of a function, a lambda, or a function class or an instance of one.

    `result_type` is a DataType, a notation (`"int64?"`) or an annotation (`Optional[int]`); without, the return annotation says it.
    `kind` is one of KINDS; without, it is `table` for generators, what the class says, else `scalar`.
    """
    if func_type != "general" or udf_type not in (None, "general"):
        raise NotImplementedError("pandas UDFs want numpy, which is native code: write a general UDF, or a vectorised one in Rust")
    if kind is not None and kind not in KINDS:
        raise DeclarationError(f"kind {kind!r}: one of {', '.join(KINDS)}")
    if kind == "vectorized":
        raise NotImplementedError("vectorised UDFs in Python come with a later version: write a general UDF, or a vectorised one in Rust")
    make = functools.partial(
        UserFunction, input_types=input_types, result_type=result_type, deterministic=deterministic, name=name, kind=kind
    )
    return make if target is None else make(target)


def udtf(target=None, input_types=None, result_types=None, deterministic=None, name=None):
    """Makes a table function: PyFlink's decorator."""
    return udf(target, input_types=input_types, result_type=result_types, deterministic=deterministic, name=name, kind="table")


def udaf(target=None, input_types=None, result_type=None, accumulator_type=None, deterministic=None, name=None, func_type="general"):
    """Makes an aggregate function: PyFlink's decorator."""
    if func_type != "general":
        raise NotImplementedError("pandas UDFs want numpy, which is native code: write a general aggregate")
    make = functools.partial(
        UserFunction, input_types=input_types, result_type=result_type, accumulator_type=accumulator_type, deterministic=deterministic,
        name=name, kind="aggregate",
    )
    return make if target is None else make(target)


class Declared:
    """A function as `describe` tells it.

    `arguments` are (name, DataType or None for `any`), `required` says of each whether None is kept from it, `open_types` whether it takes
    other types of that name too (a bare `Decimal` takes any decimal, a `datetime` any timestamp), `defaults` are the names of those that
    have one: the contract knows no defaults, so a job gives these arguments too. `result` and `accumulator` are None where nothing says them. `target` is a function, a class, or an instance of one; `method` is what is called with a row.
    """

    def __init__(self, name, target, kind, method, said):
        self.name, self.target, self.kind, self.method = name, target, kind, method
        self.arguments, self.required, self.open_types, self.varargs, self.defaults = [], [], [], False, []
        self.result = said.result_type if said else None
        self.accumulator = said.accumulator_type if said else None
        self.deterministic = True
        self.documentation = _first_paragraph(said.target if said else target)
        try:
            self._read_signature(said)
            self._read_types()
            if said and said.deterministic is not None:
                self.deterministic = bool(said.deterministic)
            elif isinstance(target, f.UserDefinedFunction):
                self.deterministic = bool(target.is_deterministic())
        except (AnnotationError, TypeNotationError, DeclarationError) as error:
            raise DeclarationError(f"{name}: {error}") from error

    def instance(self):
        """What is called: classes are made, without arguments."""
        if not inspect.isclass(self.target):
            return self.target
        try:
            return self.target()
        except TypeError as error:
            raise DeclarationError(f"{self.name}: the class must be made without arguments: {error}") from error

    def _callable(self):
        if inspect.isfunction(self.target) or self.method is None:
            return self.target
        found = getattr(self.target, self.method, None)
        if found is None:
            raise DeclarationError(f"the class lacks the method {self.method}()")
        return found

    def _read_signature(self, said):
        function = self._callable()
        try:
            parameters = list(signature_of(function).parameters.values())
        except (TypeError, ValueError) as error:
            raise DeclarationError(f"its signature cannot be read: {error}") from error
        if inspect.isclass(self.target) and not isinstance(inspect.getattr_static(self.target, self.method), staticmethod):
            parameters = parameters[1:]
        self.varargs = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if self.kind == "aggregate":
            positional = positional[:1] if self.method == "add" else positional[1:]
        elif self.kind in ROW_KINDS or self.method == "flat_map":
            wanted = {"reduce": 2, "process": 2}.get(self.kind, 1)
            if len(positional) < wanted and not self.varargs:
                raise DeclarationError(f"{self.method or 'it'} must take {wanted} arguments, it takes {len(positional)}")
            positional = positional[:1]
        hints = hints_of(function, lenient=self.method is not None)
        given = said.input_types if said and said.input_types else []
        for i, parameter in enumerate(positional):
            annotation = hints.get(parameter.name)
            known = given[i] if i < len(given) else self._argument_type(annotation)
            self.arguments.append((parameter.name, known))
            if parameter.default is not parameter.empty:
                self.defaults.append(parameter.name)
            strict = self.kind == "scalar" and i >= len(given) and known is not None and not is_optional(annotation)
            self.required.append(strict)
            self.open_types.append(i >= len(given) and is_open(annotation))
        self._hints = hints

    @staticmethod
    def _argument_type(annotation):
        if annotation is None or getattr(annotation, "__name__", "") in ("Any", "Row", "object"):
            return None
        if annotation in (list, dict, tuple):
            return None
        return of_annotation(annotation)

    def _read_types(self):
        target = self.target
        if self.kind == "filter":
            self.result = of_annotation(bool)
            return
        if self.kind == "aggregate":
            self._read_aggregate()
        said = getattr(target, "result_type", None) if self.method else None
        if self.result is None and said is not None and not callable(said):
            self.result = _result_of(said)
        if self.result is None and "return" in self._hints and self.kind != "aggregate":
            self.result = self._result_of_annotation(self._hints["return"])
        if self.result is not None and self.kind not in ("scalar", "aggregate") and self.result.name == "struct":
            self.result = self.result.not_null()
        if self.kind == "reduce" and self.arguments[0][1] is None and self.result is not None:
            self.arguments[0] = (self.arguments[0][0], self.result)

    def _result_of_annotation(self, annotation):
        if self.kind in ("table", "process") and not isinstance(annotation, DataType):
            item = item_of_iterator(annotation)
            if item is None and getattr(annotation, "__origin__", None) is list:
                item = annotation.__args__[0]
            annotation = item
        if annotation is None or annotation is type(None) or getattr(annotation, "__name__", "") in ("Any", "Row"):
            return None
        return of_annotation(annotation)

    def _read_aggregate(self):
        target = self.target
        if inspect.isclass(target) and (self.result is None or self.accumulator is None):
            try:
                target = target()
            except TypeError:
                return
        if not isinstance(target, f.AggregateFunction):
            return
        get_value = getattr(target, "get_value", None) or getattr(target, "get_result", None)
        if self.result is None:
            self.result = _some(target.get_result_type(), get_value)
        if self.accumulator is None:
            try:
                self.accumulator = _some(target.get_accumulator_type(), getattr(target, "create_accumulator", None))
            except AnnotationError:
                if target.get_accumulator_type() is not None:
                    raise
                # `-> tuple`, `-> MyClass`: an accumulator may be any object


def _some(said, function):
    """What a getter says, else the return annotation of a method."""
    if said is not None:
        return resolve(said)
    annotation = hints_of(function, lenient=True).get("return") if function is not None else None
    if annotation is None or getattr(annotation, "__name__", "") in ("Any", "Row", "list", "dict"):
        return None
    return of_annotation(annotation)


def _first_paragraph(target):
    """Of the function's own documentation; a class without one has not that of its base."""
    if not inspect.isfunction(target):
        own = target if inspect.isclass(target) else type(target)
        text = vars(own).get("__doc__")
    else:
        text = target.__doc__
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


def _of_class(base_of):
    for base, kind, method in _BASES:
        if issubclass(base_of, base):
            if base is f.AggregateFunction and hasattr(base_of, "add") and not hasattr(base_of, "accumulate"):
                method = "add"
            return kind, method
    return None


def declare(name, value):
    """The Declared of a module's attribute, or None if it is no UDF."""
    said = value if isinstance(value, UserFunction) else None
    target = said.target if said else value
    kind = said.kind if said else None
    if isinstance(target, f.Function) or (inspect.isclass(target) and issubclass(target, f.Function)):
        found = _of_class(target if inspect.isclass(target) else type(target))
        if found is None:
            raise DeclarationError(f"{name}: no kind of function that Wasmill knows: derive from one of its classes")
        return Declared(name, target, found[0], found[1], said)
    if said is None and not (inspect.isfunction(target) and _has_result(target)):
        return None
    if not callable(target):
        raise DeclarationError(f"{name}: @udf stands on something that cannot be called")
    if kind is None:
        kind = "table" if inspect.isgeneratorfunction(target) else "scalar"
    return Declared(name, target, kind, None, said)


def _has_result(function):
    try:
        return "return" in function.__annotations__
    except Exception:  # evaluated lazily from Python 3.14 on, and wrong: `Declared` says how
        return True


def returns_nothing(function):
    """Is it `-> None`, so that nobody can have meant it for a UDF?"""
    try:
        return function.__annotations__["return"] in (None, "None")
    except Exception:
        return False


def functions_of(module, skipped=None):
    """All UDFs of a module by name, in the order of their definition.

    A plain function whose annotations stand for no column types is none; `skipped` gets its name and the reason.
    """
    found, names = {}, {}
    for name, value in list(vars(module).items()):
        if name.startswith("_"):
            continue
        try:
            declared = _declared_in(module, name, value)
        except DeclarationError as error:
            if not inspect.isfunction(value):
                raise
            if skipped is not None:
                skipped[name] = str(error)
            continue
        if declared is None:
            continue
        _refuse_twice(declared, name, value, names)
        names[declared.name] = name, value
        found[declared.name] = declared
    return found


def _refuse_twice(declared, name, value, names):
    """One name for two functions, which only `name=` can bring about. The same function under two names is no harm."""
    first, other = names.get(declared.name, (None, value))
    if other is not value:
        raise DeclarationError(
            f"two functions are called {declared.name!r}: {_with_line(first, other)} and {_with_line(name, value)}: give one another name="
        )


def _with_line(name, value):
    code = getattr(getattr(value, "target", value), "__code__", None)
    return f"{name} (line {code.co_firstlineno})" if code else name


def _declared_in(module, name, value):
    if isinstance(value, UserFunction):
        return declare(value.name or name, value)
    if getattr(value, "__module__", None) != module.__name__:
        return None
    if inspect.isclass(value) and (not issubclass(value, f.Function) or inspect.isabstract(value)):
        return None
    declared = declare(name, value)
    if declared is not None and inspect.isfunction(value) and declared.result is None:
        raise DeclarationError(f"{name}: its return annotation stands for no column type")
    return declared
