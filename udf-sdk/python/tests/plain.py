"""JSON values of the reference (wit/vectors) to Python values as a UDF sees them, and back."""

import datetime
import decimal
import math

from wasmill.notation import UNITS, zone
from wasmill.rows import Row, restore

EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)


def to_python(t, value):
    """What the UDF gets."""
    if value is None:
        return None
    name = t.name
    if name in ("float32", "float64"):
        return float(value)
    if name == "decimal":
        return decimal.Decimal(value)
    if name == "binary":
        return bytes.fromhex(value)
    if name == "date":
        return datetime.date.fromordinal(value + 719163)
    if name == "time":
        return (EPOCH + value * MICROSECOND).time()
    if name == "timestamp":
        digits = UNITS[t.params[0]]
        micros = value // 1000 if digits == 9 else value * 10 ** (6 - digits)
        made = EPOCH + datetime.timedelta(microseconds=micros)
        return made if len(t.params) == 1 else made.replace(tzinfo=datetime.timezone.utc).astimezone(zone(t.params[1]))
    if name == "list":
        return [to_python(t.fields[0][1], v) for v in value]
    if name == "map":
        return {to_python(t.fields[0][1], k): to_python(t.fields[1][1], v) for k, v in value}
    if name == "struct":
        return restore({n: i for i, n in enumerate(t.names)}, [to_python(c, value[n]) for n, c in t.fields])
    return value


def coarse(t, value):
    """The JSON value without what Python cannot hold: nanoseconds below a microsecond."""
    if value is None:
        return None
    if t.name == "timestamp" and t.params[0] == "ns":
        return value // 1000 * 1000
    if t.name == "list":
        return [coarse(t.fields[0][1], v) for v in value]
    if t.name == "map":
        return [[coarse(t.fields[0][1], k), coarse(t.fields[1][1], v)] for k, v in value]
    if t.name == "struct":
        return {n: coarse(c, value[n]) for n, c in t.fields}
    return value


def same(a, b):
    """Equal, of the same types, NaN being itself and zeros having their sign."""
    if isinstance(a, Row) and isinstance(b, Row):
        return list(a._shape or ()) == list(b._shape or ()) and same(a._values, b._values)
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b) or a != a and b != b
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, decimal.Decimal):
        return a.as_tuple() == b.as_tuple()
    return a == b
