"""Types in the notation of the contract: `int64`, `utf8?`, `struct<a: int64, tags: list<utf8?>?>`."""

import re
from datetime import timedelta, timezone

DEPTH_MAX = 16
INTEGERS = {f"{sign}int{8 * width}": (width, 1 if not sign else 0) for width in (1, 2, 4, 8) for sign in ("", "u")}
FLOATS = {"float32": 4, "float64": 8}
UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
PLAIN = {"bool": "b", "utf8": "u", "binary": "y", "date": "D", "time": "t"}
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\["\\])*"|[A-Za-z0-9_+\-/]+|[<>(),:?])')
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class TypeNotationError(ValueError):
    """A type is written in a way that the contract does not know."""


class DataType:
    """A type of a column, argument, result or state. Immutable.

    `name` is the first word of the notation, `params` are those of `decimal` and `timestamp`, `fields` are (name, DataType)
    of the elements, `nullable` says whether None is a value of it.
    """

    __slots__ = ("name", "nullable", "params", "fields")

    def __init__(self, name, nullable=False, params=(), fields=()):
        for slot, value in zip(self.__slots__, (name, nullable, tuple(params), tuple(fields))):
            object.__setattr__(self, slot, value)

    def __setattr__(self, name, value):
        raise AttributeError("a DataType does not change: make another one")

    def __str__(self):
        inner = ""
        if self.params:
            inner = "(" + ",".join(map(str, self.params)) + ")"
        elif self.name == "struct":
            inner = "<" + ", ".join(f"{quoted(n)}: {t}" for n, t in self.fields) + ">"
        elif self.fields:
            inner = "<" + ", ".join(str(t) for _, t in self.fields) + ">"
        return f"{self.name}{inner}{'?' if self.nullable else ''}"

    __repr__ = __str__

    def __eq__(self, other):
        return isinstance(other, DataType) and str(self) == str(other)

    def __hash__(self):
        return hash(str(self))

    def __reduce__(self):
        return (DataType, (self.name, self.nullable, self.params, self.fields))

    def as_nullable(self, nullable=True):
        """The same type with or without None."""
        return self if self.nullable == nullable else DataType(self.name, nullable, self.params, self.fields)

    def not_null(self):
        """The same type without None (PyFlink's name)."""
        return self.as_nullable(False)

    @property
    def names(self):
        """The names of a struct's fields."""
        return [n for n, _ in self.fields]

    def compiled(self):
        """The tuple that the C codec builds its types from."""
        code, a, b, extra, names = PLAIN.get(self.name), 0, 0, None, None
        if self.name in INTEGERS:
            code, (a, b) = "i", INTEGERS[self.name]
        elif self.name in FLOATS:
            code, a = "f", FLOATS[self.name]
        elif self.name == "decimal":
            code, (a, b) = "d", self.params
        elif self.name == "timestamp":
            code, a = "T", UNITS[self.params[0]]
            extra = zone(self.params[1]) if len(self.params) > 1 else None
        elif self.name == "struct":
            code, names = "s", tuple(self.names)
            extra = {n: i for i, n in enumerate(names)}
        elif self.name in ("list", "map"):
            code = self.name[0]
        return (code, self.nullable, a, b, extra, names, tuple(t.compiled() for _, t in self.fields), str(self))


def quoted(name):
    """A field's name as the notation wants it."""
    if _NAME.match(name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def zone(name):
    """The tzinfo of `UTC`, `Europe/Berlin` or `+02:00`."""
    if name in ("UTC", "Z", "Etc/UTC"):
        return timezone.utc
    offset = re.fullmatch(r"([+-])(\d\d):?(\d\d)", name)
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3])
        return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    try:
        from zoneinfo import ZoneInfo

        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise TypeNotationError(f"timestamp: there is no time zone {name!r}") from error


def parse(text):
    """The DataType that `text` stands for, or TypeNotationError."""
    if isinstance(text, DataType):
        return text
    reader = _Reader(text)
    found = reader.type(1)
    if reader.tokens:
        raise reader.error(f"{reader.tokens[0]!r} stands behind the type")
    return found


class _Reader:
    def __init__(self, text):
        self.text, self.tokens, at = text, [], 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if not found:
                raise self.error(f"{text[at:].strip()[0]!r} has no place in a type")
            self.tokens.append(found.group(1))
            at = found.end()

    def error(self, why):
        return TypeNotationError(f"type {self.text!r}: {why}")

    def take(self, want=None):
        if not self.tokens:
            raise self.error(f"it ends where {want or 'a word'} should stand")
        if want is not None and self.tokens[0] != want:
            raise self.error(f"{self.tokens[0]!r} stands where {want!r} should")
        return self.tokens.pop(0)

    def type(self, depth):
        if depth > DEPTH_MAX:
            raise self.error(f"nested more than {DEPTH_MAX} deep")
        name, params, fields = self.take(), (), ()
        if name == "decimal":
            params = self.decimal()
        elif name == "timestamp":
            params = self.timestamp()
        elif name in ("list", "map"):
            fields = self.elements(name, depth)
        elif name == "struct":
            fields = self.struct(depth)
        elif name not in PLAIN and name not in INTEGERS and name not in FLOATS:
            raise self.error(f"there is no type {name!r}")
        nullable = self.tokens[:1] == ["?"]
        if nullable:
            self.take()
        return DataType(name, nullable, params, fields)

    def decimal(self):
        self.take("(")
        precision = self.take()
        self.take(",")
        scale = self.take()
        self.take(")")
        if not (precision.isdigit() and scale.isdigit()) or not 1 <= int(precision) <= 38 or int(scale) > int(precision):
            raise self.error("decimal(p,s) wants 1 <= p <= 38 and 0 <= s <= p")
        return int(precision), int(scale)

    def timestamp(self):
        self.take("(")
        unit = self.take()
        if unit not in UNITS:
            raise self.error(f"{unit!r} is no unit of a timestamp: s, ms, us or ns")
        params = (unit,)
        if self.tokens[:1] == [","]:
            self.take()
            name = self.take()
            if name in ("<", ">", "(", ")", ",", ":", "?"):
                raise self.error("a time zone should stand behind the comma")
            if self.tokens[:1] == [":"]:
                name += self.take() + self.take()
            params = (unit, name)
        self.take(")")
        return params

    def elements(self, name, depth):
        self.take("<")
        if name == "list":
            fields = (("item", self.type(depth + 1)),)
        else:
            key = self.type(depth + 1)
            if key.nullable:
                raise self.error("the key of a map is never null")
            self.take(",")
            fields = (("key", key), ("value", self.type(depth + 1)))
        self.take(">")
        return fields

    def struct(self, depth):
        self.take("<")
        fields = []
        if self.tokens[:1] == [">"]:
            self.take()
            return ()
        while True:
            name = self.take()
            if name.startswith('"'):
                name = re.sub(r"\\(.)", r"\1", name[1:-1])
            elif not _NAME.match(name):
                raise self.error(f"{name!r} is no name of a field: put it in double quotes")
            self.take(":")
            fields.append((name, self.type(depth + 1)))
            if self.tokens[:1] == [","]:
                self.take()
                continue
            self.take(">")
            return tuple(fields)
