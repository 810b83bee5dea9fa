"""What a value becomes by being written as a type and read back: the checks and messages of the codec, in plain Python.

The native harness uses it. A test holds it against the C codec, value by value and message by message.
"""

import dataclasses
import datetime
import decimal
import operator
import struct

from .notation import FLOATS, INTEGERS, UNITS, zone
from .rows import Row, restore

_ZONE_MISSING = " without a zone: give it one with value.replace(tzinfo=timezone.utc), or declare a type without, as timestamp(us)"
_ZONE_TOO_MUCH = (
    " with a zone: take it off with value.astimezone(timezone.utc).replace(tzinfo=None), or declare a type with one, as timestamp(us,UTC)"
)
_EPOCH = datetime.datetime(1970, 1, 1)
_WIDE = decimal.Context(prec=120, rounding=decimal.ROUND_HALF_UP, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


def normalise(data_type, value, where="value"):
    """The value as the UDF's next reader would get it. TypeError, OverflowError and their messages are those of the codec."""
    if value is None:
        if data_type.nullable:
            return None
        raise _wrong(data_type, value, where)
    return _CONVERSIONS[data_type.name](data_type, value, where)


def _shown(value):
    name = type(value).__name__
    if isinstance(value, (str, bytes)) and len(value) > 60 or not isinstance(value, (str, bytes, int, float)):
        return name
    try:
        text = repr(value)
    except ValueError:
        return name
    return name if len(text) > 80 else f"{name} {text}"


def _wrong(data_type, value, where, more=""):
    return TypeError(f"{where}: wants {data_type}, got {'None' if value is None else _shown(value)}{more}")


def _unfit(data_type, value, where):
    return OverflowError(f"{where}: does not fit {data_type}, got {_shown(value)}")


def _bool(t, value, where):
    if not isinstance(value, bool):
        raise _wrong(t, value, where)
    return value


def _int(t, value, where):
    width, signed = INTEGERS[t.name]
    if not isinstance(value, int):
        try:
            value = operator.index(value)
        except TypeError:
            raise _wrong(t, value, where) from None
    bits = 8 * width
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise _unfit(t, value, where)
    return int(value)


def _float(t, value, where):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(t, value, where)
    try:
        made = float(value)
        return made if FLOATS[t.name] == 8 else struct.unpack("<f", struct.pack("<f", made))[0]
    except OverflowError:
        raise _unfit(t, value, where) from None


def _decimal(t, value, where):
    precision, scale = t.params
    if isinstance(value, bool) or not isinstance(value, (int, decimal.Decimal)):
        raise _wrong(t, value, where)
    given = decimal.Decimal(value)
    if not given.is_finite():
        raise _wrong(t, value, where)
    if not given:
        return decimal.Decimal(0).scaleb(-scale)
    if given.adjusted() < -60:
        return decimal.Decimal(0).scaleb(-scale)
    if given.adjusted() > 40:
        rounded = None
    else:
        rounded = given.quantize(decimal.Decimal(1).scaleb(-scale), context=_WIDE)
    if rounded is None or rounded.scaleb(scale, _WIDE).copy_abs() >= 10**precision:
        if t.nullable:
            return None
        raise _unfit(t, value, where)
    return rounded if rounded else abs(rounded)


def _utf8(t, value, where):
    if not isinstance(value, str):
        raise _wrong(t, value, where)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: wants {t}, got {_shown(value)}, whose character {error.start} is half a pair (a lone surrogate): "
            "replace it, as value.encode('utf-8', 'replace').decode() does"
        ) from None
    return value


def _binary(t, value, where):
    if isinstance(value, str):
        raise _wrong(t, value, where)
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise _wrong(t, value, where) from None


def _date(t, value, where):
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        raise _wrong(t, value, where)
    return value


def _time(t, value, where):
    if not isinstance(value, datetime.time):
        raise _wrong(t, value, where)
    if value.tzinfo is not None:
        raise _wrong(t, value, where, " with a zone: take it off with value.replace(tzinfo=None)")
    return value


def _timestamp(t, value, where):
    zoned = len(t.params) > 1
    if not isinstance(value, datetime.datetime):
        raise _wrong(t, value, where)
    if (value.tzinfo is not None) != zoned:
        raise _wrong(t, value, where, _ZONE_MISSING if zoned else _ZONE_TOO_MUCH)
    plain = value.astimezone(datetime.timezone.utc).replace(tzinfo=None) if zoned else value
    digits = UNITS[t.params[0]]
    micros = (plain - _EPOCH) // datetime.timedelta(microseconds=1)
    units = micros * 10 ** (digits - 6) if digits > 6 else micros // 10 ** (6 - digits)
    if not -(2**63) <= units < 2**63:
        raise _unfit(t, value, where)
    if digits < 6:
        step = 10 ** (6 - digits)
        plain = plain.replace(microsecond=plain.microsecond // step * step)
    return plain.replace(tzinfo=datetime.timezone.utc).astimezone(zone(t.params[1])) if zoned else plain.replace(fold=0)


def _list(t, value, where):
    if not isinstance(value, (list, tuple)):
        raise _wrong(t, value, where)
    element = t.fields[0][1]
    return [normalise(element, item, f"{where}[{i}]") for i, item in enumerate(value)]


def _map(t, value, where):
    if not isinstance(value, dict):
        raise _wrong(t, value, where)
    key_type, item_type = t.fields[0][1], t.fields[1][1]
    out = {}
    for key, item in value.items():
        at = f"{where}[{repr(key)[:40]}]"
        made = normalise(key_type, key, at)  # what is wrong with it is said first
        out[made] = normalise(item_type, item, at)
    return out


def _struct(t, value, where):
    values = _fields(t, value, where)
    made = [normalise(child, item, f"{where}.{name}") for (name, child), item in zip(t.fields, values)]
    return restore({name: i for i, (name, _) in enumerate(t.fields)}, made)


def _fields(t, value, where):
    if isinstance(value, Row) and value._shape is not None:
        if len(value) != len(t.fields):
            raise _lengths(t, value, where)
        return _by_name(t, dict(zip(value._shape, value._values)), where)
    if isinstance(value, dict):
        found = _by_name(t, value, where)
        unknown = [k for k in value if k not in t.names]
        if unknown:
            shown = repr(unknown[0]) if isinstance(unknown[0], (str, bytes, int, float)) else "?"
            raise TypeError(f"{where}: has a field {shown} that is not in {t}")
        return found
    if isinstance(value, tuple) and hasattr(type(value), "_fields") or dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _by_name(t, {n: getattr(value, n) for n in t.names if hasattr(value, n)}, where)
    if not isinstance(value, (Row, tuple, list)):
        raise _wrong(t, value, where)
    if len(value) != len(t.fields):
        raise _lengths(t, value, where)
    return list(value)


def _lengths(t, value, where):
    return TypeError(f"{where}: wants the {len(t.fields)} fields of {t}, got a {type(value).__name__} of {len(value)}")


def _by_name(t, values, where):
    for name in t.names:
        if name not in values:
            raise TypeError(f'{where}: lacks the field "{name}" of {t}')
    return [values[name] for name in t.names]


def _any(t, value, where):
    return value


_CONVERSIONS = {
    "any": _any,
    "bool": _bool, "decimal": _decimal, "utf8": _utf8, "binary": _binary, "date": _date, "time": _time, "timestamp": _timestamp,
    "list": _list, "map": _map, "struct": _struct, **dict.fromkeys(INTEGERS, _int), **dict.fromkeys(FLOATS, _float),
}
