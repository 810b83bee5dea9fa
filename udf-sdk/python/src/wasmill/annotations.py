"""Types from annotations: `int` → `int64`, `Optional[list[str]]` → `list<utf8>?`, a NamedTuple → `struct<…>`."""

import collections.abc
import dataclasses
import datetime
import decimal
import inspect
import sys
import typing

from .notation import DataType, TypeNotationError, parse

# A decimal without further word: 38 digits, 18 of them behind the point, as SQL's BigDecimal in Flink.
DECIMAL_DEFAULT = "decimal(38,18)"
_PLAIN = {
    bool: "bool", int: "int64", float: "float64", str: "utf8", bytes: "binary", bytearray: "binary", decimal.Decimal: DECIMAL_DEFAULT,
    datetime.date: "date", datetime.time: "time", datetime.datetime: "timestamp(us)",
}
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_ITERATORS = (collections.abc.Iterator, collections.abc.Iterable, collections.abc.Generator)
_NONE = type(None)


class AnnotationError(TypeError):
    """An annotation stands for no type of the contract."""


def _union(annotation):
    """The members of `Optional[X]`, `Union[X, Y]` or `X | Y`; else None."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return typing.get_args(annotation)
    return None


def is_optional(annotation):
    """Does the annotation allow None? `Any` does."""
    if isinstance(annotation, DataType):
        return annotation.nullable
    members = _union(annotation)
    return annotation in (None, _NONE, typing.Any, object) or (members is not None and _NONE in members)


def is_open(annotation):
    """Does the annotation, `Decimal` or `datetime`, leave precision, unit or zone open?"""
    members = [m for m in _union(annotation) or (annotation,) if m is not _NONE]
    return members in ([decimal.Decimal], [datetime.datetime])


def of_annotation(annotation):
    """The DataType of an annotation, or AnnotationError."""
    if isinstance(annotation, DataType):
        return annotation
    if isinstance(annotation, str):
        return parse(annotation)
    members = _union(annotation)
    if members is not None:
        rest = [m for m in members if m is not _NONE]
        if len(rest) != 1 or len(rest) == len(members):
            raise AnnotationError(f"{annotation}: a column has one type; only None may be another one (Optional[X])")
        return of_annotation(rest[0]).as_nullable()
    if annotation in _PLAIN:
        return parse(_PLAIN[annotation])
    return _of_generic(annotation)


def _of_generic(annotation):
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is typing.Annotated:
        for extra in arguments[1:]:
            if isinstance(extra, (DataType, str)):
                found = parse(extra)
                return found.as_nullable(found.nullable or is_optional(arguments[0]))
        return of_annotation(arguments[0])
    if origin in _LISTS and len(arguments) == 1:
        return DataType("list", fields=[("item", of_annotation(arguments[0]))])
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return DataType("list", fields=[("item", of_annotation(arguments[0]))])
    if origin is tuple and arguments:
        return DataType("struct", fields=[(f"f{i}", of_annotation(a)) for i, a in enumerate(arguments)])
    if origin in _MAPS and len(arguments) == 2:
        return DataType("map", fields=[("key", of_annotation(arguments[0]).not_null()), ("value", of_annotation(arguments[1]))])
    fields = _fields_of(origin)
    if fields is not None:
        return DataType("struct", fields=fields)
    shown = getattr(annotation, "__name__", None) or str(annotation)
    wants = " (say of what: list[int], dict[str, float])" if annotation in (list, dict, tuple) else ""
    raise AnnotationError(f"the annotation {shown} stands for no column type{wants}")


def _fields_of(origin):
    """The fields of a NamedTuple, dataclass or TypedDict; else None."""
    if not isinstance(origin, type):
        return None
    named = issubclass(origin, tuple) and hasattr(origin, "_fields")
    if not (named or dataclasses.is_dataclass(origin) or hasattr(origin, "__total__")):
        return None
    names = origin._fields if named else [f.name for f in dataclasses.fields(origin)] if dataclasses.is_dataclass(origin) else None
    hints = _hints_of_class(origin)
    missing = [n for n in names or () if n not in hints]
    if missing:
        raise AnnotationError(f"{origin.__name__}.{missing[0]} has no annotation")
    return [(n, of_annotation(hints[n])) for n in names or hints]


def _hints_of_class(origin):
    try:
        return typing.get_type_hints(origin, include_extras=True)
    except Exception:
        pass  # one is in the notation of the contract, or wrong
    found = {}
    for base in reversed(origin.__mro__):
        scope = vars(sys.modules.get(base.__module__, typing))
        for name, annotation in _raw(base).items():
            annotation = getattr(annotation, "__forward_arg__", annotation)  # what NamedTuple makes of a text
            try:
                found[name] = _resolved(annotation, scope)
            except Exception as error:
                raise _unresolvable(annotation, f"{origin.__name__}.{name}", error) from error
    return found


def _raw(annotated):
    try:
        return dict(getattr(annotated, "__annotations__", None) or {})
    except Exception as error:  # annotations are evaluated lazily from Python 3.14 on
        raise AnnotationError(f"the annotations cannot be resolved: {type(error).__name__}: {error}") from error


def _unresolvable(annotation, where, error):
    return AnnotationError(
        f'the annotation {annotation!r} of {where} is neither a Python type nor one in the notation of the contract, as "int64?": '
        f"{type(error).__name__}: {error}"
    )


def item_of_iterator(annotation):
    """X of `Iterator[X]`, `Iterable[X]`, `Generator[X, …]`, or of a list of rows; else None."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _ITERATORS and arguments:
        return arguments[0]
    return None


def signature_of(function):
    """The signature, whatever its annotations are: Python 3.14 evaluates them for it."""
    try:
        return inspect.signature(function)
    except NameError:
        import annotationlib

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)


def hints_of(function, lenient=False):
    """The annotations of a function, with names resolved; a text in the notation of the contract is its DataType. One that is neither is
    an AnnotationError that names it, or is left out: a method may be annotated with what only a type checker sees."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        pass  # the culprit is one of them
    try:
        raw = _raw(function)
    except AnnotationError:
        if lenient:
            return {}
        raise
    scope, found = getattr(inspect.unwrap(function), "__globals__", {}), {}
    for name, annotation in raw.items():
        try:
            found[name] = _resolved(annotation, scope)
        except Exception as error:
            if not lenient:
                raise _unresolvable(annotation, "the result" if name == "return" else name, error) from error
    return found


def _resolved(annotation, scope):
    if not isinstance(annotation, str):
        return annotation
    try:
        found = eval(annotation, scope)
        return _resolved(found, scope)  # a text again, where `from __future__ import annotations` stands
    except Exception as error:
        try:
            return parse(annotation)
        except TypeNotationError:
            raise error from None
