"""Bundles as the host writes them (wit/README.md, "Frames" and "Values"), read into the values that a UDF sees. In plain Python: the
codec in C does this inside the runner, and a test holds both against the golden vectors."""

import datetime
import decimal
import struct

from .notation import FLOATS, INTEGERS, UNITS, zone
from .rows import restore

MAGIC = 0x31424D57
PROCESS, ACCUMULATE, RETRACT, MERGE, RESULT = range(5)
NO_TIME = -(2**63)

_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)
_DAYS = datetime.date(1970, 1, 1).toordinal()
_WIDE = {"date": 4, "time": 8, "timestamp": 8, "decimal": 16, **{n: w for n, (w, _) in INTEGERS.items()}, **FLOATS}


class FrameError(ValueError):
    """The bytes are cut, or not what they are said to be."""


class Bundle:
    """What one call was given. Columns are lists of values; those that are absent are None, as are times of rows without one."""

    def __init__(self, data, kind, arguments, key, states):
        """`arguments`, `key` and `states` (those that travel with the bundle) are DataTypes."""
        slots = _Slots(data)
        _, _, _, self.operation, self.rows, self.keys, self.watermark, self.processing_time, self.seed = slots.header
        if self.operation > RESULT:
            raise FrameError(f"operation {self.operation} is not in contract 0.1")
        has_arguments = self.operation not in (MERGE, RESULT)
        self.arguments = [slots.column(t, self.rows, has_arguments) for t in arguments]
        self.event_times = slots.numbers("q", self.rows)
        self.row_kinds = slots.numbers("B", self.rows)
        self.key_index = slots.numbers("I", self.rows)
        self.key_columns = [slots.column(t, self.keys) for t in key]
        slots.skip(3)
        states = [t.as_nullable() for t in states]
        self.states = [slots.column(t, self.keys) for t in states]
        if kind == "aggregate":
            self.sources = [slots.column(t, self.rows, self.operation == MERGE) for t in states]
        if slots.left:
            raise FrameError(f"{slots.left} slots are left over: it is a frame of other types")


class _Slots:
    def __init__(self, data):
        if len(data) < 64 or len(data) % 64:
            raise FrameError(f"a frame of {len(data)} bytes: it was cut")
        self.data, self.at = data, 0
        self.header = struct.unpack_from("<IIIIIIqqQ", data)
        if self.header[0] != MAGIC:
            raise FrameError(f"begins with {self.header[0]:#x}, not {MAGIC:#x}")
        if 64 + 8 * self.header[1] > len(data):
            raise FrameError(f"a directory of {self.header[1]} slots does not fit in {len(data)} bytes")

    @property
    def left(self):
        return self.header[1] - self.at

    def skip(self, count):
        if count > self.left:
            raise FrameError(f"{self.header[1]} slots, more are needed: it is a frame of other types")
        self.at += count

    def take(self, size=None):
        """The next slot; without bytes it is absent. `size` is what it must have if it is there."""
        self.skip(1)
        start, length = struct.unpack_from("<II", self.data, 64 + 8 * (self.at - 1))
        if start + length > len(self.data):
            raise FrameError(f"slot {self.at - 1} ends at {start + length} of {len(self.data)} bytes: it was cut")
        if size is not None and length not in (0, size):
            raise FrameError(f"slot {self.at - 1} has {length} bytes, {size} wanted")
        return self.data[start : start + length]

    def numbers(self, code, count):
        data = self.take(count * struct.calcsize("<" + code))
        return struct.unpack(f"<{count}{code}", data) if data else None

    def ends(self, rows):
        ends = self.numbers("i", rows + 1) if rows else (self.skip(1), (0,))[1]
        if ends is None:
            raise FrameError("offsets are absent")
        return ends

    def column(self, t, rows, is_there=True):
        """The values of a column, or None."""
        if not is_there:
            self.skip(slot_count(t))
            return None
        validity = self.take((rows + 7) // 8)
        values = self.values(t, rows)
        return [None if validity and not _bit(validity, i) else _python(t, v) for i, v in enumerate(values)]

    def values(self, t, rows):
        """What lies below the validity: for types of one slot as bytes, since what a null row holds means nothing."""
        if t.name == "bool":
            data = self.take((rows + 7) // 8)
            return [_bit(data, i) for i in range(rows)] if data else [False] * rows
        if t.name in ("utf8", "binary"):
            ends, data = self.ends(rows), self.take()
            return [data[a:b] for a, b in zip(ends, ends[1:])]
        if t.name == "struct":
            fields = [self.column(child, rows) for _, child in t.fields]
            return [[field[i] for field in fields] for i in range(rows)]
        if t.name in ("list", "map"):
            ends = self.ends(rows)
            children = [self.column(child, ends[-1]) for _, child in t.fields]
            items = children[0] if t.name == "list" else list(zip(*children))
            return [items[a:b] for a, b in zip(ends, ends[1:])]
        width = _WIDE[t.name]
        data = self.take(rows * width)
        if rows and not data:
            raise FrameError(f"the values of a column of {rows} rows are absent")
        return [data[i * width : (i + 1) * width] for i in range(rows)]


def slot_count(t):
    """Slots of a column."""
    own = {"utf8": 3, "binary": 3, "list": 2, "map": 2, "struct": 1}.get(t.name, 2)
    return own + sum(slot_count(child) for _, child in t.fields)


def _bit(data, i):
    return bool(data[i // 8] >> (i % 8) & 1)


def _python(t, held):
    """The value that a UDF gets. Children of lists, maps and structs are such values already."""
    name = t.name
    if name == "utf8":
        return held.decode()
    if name == "list":
        return list(held)
    if name == "map":
        return dict(held)
    if name == "struct":
        return restore({n: i for i, n in enumerate(t.names)}, held)
    if name == "decimal":
        unscaled = int.from_bytes(held, "little", signed=True)
        return decimal.Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -t.params[1]))
    if name in INTEGERS:
        return int.from_bytes(held, "little", signed=INTEGERS[name][1])
    if name in FLOATS:
        return struct.unpack("<d" if FLOATS[name] == 8 else "<f", held)[0]
    if name in ("date", "time", "timestamp"):
        return _time(t, int.from_bytes(held, "little", signed=True))
    return held  # bool, binary


def _time(t, number):
    if t.name == "date":
        return datetime.date.fromordinal(_DAYS + number)
    if t.name == "time":
        return (_EPOCH + number * _MICROSECOND).time()
    digits = UNITS[t.params[0]]
    made = _EPOCH + (number // 10 ** (digits - 6) if digits > 6 else number * 10 ** (6 - digits)) * _MICROSECOND
    return made if len(t.params) == 1 else made.replace(tzinfo=datetime.timezone.utc).astimezone(zone(t.params[1]))


def value(t, data):
    """A value of a state that is reached by calls; FrameError if it is cut or has bytes behind it."""
    made, at = _value(t, data, 0)
    if at != len(data):
        raise FrameError(f"{len(data) - at} bytes behind a value of {t}")
    return made


def _value(t, data, at):
    if t.nullable:
        if not _part(data, at, 1)[0]:
            return None, at + 1
        at += 1
    if t.name == "bool":
        return bool(_part(data, at, 1)[0]), at + 1
    if t.name == "struct":
        fields = []
        for _, child in t.fields:
            made, at = _value(child, data, at)
            fields.append(made)
        return _python(t, fields), at
    if t.name in _WIDE:
        width = _WIDE[t.name]
        return _python(t, _part(data, at, width)), at + width
    count, at = struct.unpack("<I", _part(data, at, 4))[0], at + 4
    if t.name in ("utf8", "binary"):
        return _python(t, _part(data, at, count)), at + count
    items = []
    for _ in range(count):
        parts = []
        for _, child in t.fields:
            made, at = _value(child, data, at)
            parts.append(made)
        items.append(parts[0] if t.name == "list" else parts)
    return _python(t, items), at


def _part(data, at, length):
    if at + length > len(data):
        raise FrameError(f"a value ends {at + length - len(data)} bytes early")
    return data[at : at + length]
