"""A plain-Python reference of ../README.md: types, columns, frames and values.

It is written for reading and for checking the others, not for speed: every Rust and C codec in this
repository is compared with it. Standard library only.

Values are what JSON can hold: integers, `true`, floats as numbers or "NaN", "inf", "-inf", decimals as
strings, binary as hex, dates, times and timestamps as integers in their unit, lists as lists, structs as
objects, maps as lists of [key, value].
"""

import math
import re
import struct as packer
from decimal import Context, Decimal

BUNDLE_MAGIC = 0x31424D57
EFFECTS_MAGIC = 0x31454D57
DEPTH_MAX = 16
NO_TIME = -(2**63)
WIDE = Context(prec=80)
FIXED = {
    "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q",
    "float32": "f", "float64": "d", "date": "i", "time": "q", "timestamp": "q",
}


class TypeText(ValueError):
    """A type whose notation is wrong."""


class Type:
    """A parsed type: `name`, `nullable`, `params` (decimal, timestamp) and `children` as (name, Type)."""

    def __init__(self, name, nullable=False, params=(), children=()):
        self.name, self.nullable, self.params, self.children = name, nullable, params, children

    def as_nullable(self):
        return Type(self.name, True, self.params, self.children)

    def __str__(self):
        inner = ""
        if self.name in ("decimal", "timestamp") and self.params:
            inner = "(" + ",".join(str(p) for p in self.params) + ")"
        elif self.name == "struct":
            inner = "<" + ", ".join(f"{quoted(n)}: {t}" for n, t in self.children) + ">"
        elif self.children:
            inner = "<" + ", ".join(str(t) for _, t in self.children) + ">"
        return self.name + inner + ("?" if self.nullable else "")


def quoted(name):
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


TOKEN = re.compile(r'\s*("(?:[^"\\]|\\["\\])*"|[A-Za-z0-9_+\-/]+(?::[0-9]+)?|[<>(),:?])')


def tokens(text):
    out, at = [], 0
    while text[at:].strip():
        found = TOKEN.match(text, at)
        if not found:
            raise TypeText(f"unexpected {text[at:].strip()[0]!r}")
        out.append(found.group(1))
        at = found.end()
    return out


def parse(text):
    """The Type that `text` stands for, or TypeText."""
    left = tokens(text)
    found = _type(left, 1)
    if left:
        raise TypeText(f"unexpected {left[0]!r} after the type")
    return found


def _take(left, want=None):
    if not left:
        raise TypeText(f"ends where {want or 'a type'} should stand")
    if want is not None and left[0] != want:
        raise TypeText(f"{left[0]!r} stands where {want!r} should")
    return left.pop(0)


def _type(left, depth):
    if depth > DEPTH_MAX:
        raise TypeText(f"nested more than {DEPTH_MAX} deep")
    name, params, children = _take(left), (), ()
    if name == "decimal":
        params = _decimal(left)
    elif name == "timestamp":
        params = _timestamp(left)
    elif name == "list":
        _take(left, "<")
        children = (("item", _type(left, depth + 1)),)
        _take(left, ">")
    elif name == "map":
        _take(left, "<")
        key = _type(left, depth + 1)
        _take(left, ",")
        children = (("key", key), ("value", _type(left, depth + 1)))
        _take(left, ">")
        if key.nullable:
            raise TypeText("the key of a map is never null")
    elif name == "struct":
        children = _fields(left, depth)
    elif name not in FIXED and name not in ("bool", "utf8", "binary"):
        raise TypeText(f"there is no type {name!r}")
    nullable = bool(left) and left[0] == "?"
    if nullable:
        left.pop(0)
    return Type(name, nullable, params, children)


def _decimal(left):
    _take(left, "(")
    precision = _take(left)
    _take(left, ",")
    scale = _take(left)
    _take(left, ")")
    if not (precision.isdigit() and scale.isdigit()):
        raise TypeText("decimal(p,s) takes two numbers")
    p, s = int(precision), int(scale)
    if not 1 <= p <= 38 or s > p:
        raise TypeText("decimal(p,s) wants 1 <= p <= 38 and 0 <= s <= p")
    return (p, s)


def _timestamp(left):
    _take(left, "(")
    unit = _take(left)
    if unit not in ("s", "ms", "us", "ns"):
        raise TypeText(f"{unit!r} is no unit of timestamp: s, ms, us or ns")
    zone = ()
    if left and left[0] == ",":
        left.pop(0)
        zone = (_take(left),)
    _take(left, ")")
    return (unit, *zone)


def _fields(left, depth):
    _take(left, "<")
    fields = []
    if left and left[0] == ">":
        left.pop(0)
        return ()
    while True:
        name = _take(left, None)
        glued = ":" in name[1:] and not name.startswith('"')
        if name.startswith('"'):
            name = re.sub(r"\\(.)", r"\1", name[1:-1])
        elif glued or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise TypeText(f"{name!r} is no name of a field: put it in double quotes")
        _take(left, ":")
        fields.append((name, _type(left, depth + 1)))
        if left and left[0] == ",":
            left.pop(0)
            continue
        _take(left, ">")
        return tuple(fields)


# ---- one fixed-width value

def pack(kind, value):
    if kind.name == "decimal":
        unscaled = WIDE.scaleb(Decimal(value), kind.params[1])
        return int(unscaled).to_bytes(16, "little", signed=True)
    return packer.pack("<" + FIXED[kind.name], _number(value))


def unpack(kind, data):
    if kind.name == "decimal":
        unscaled = int.from_bytes(data, "little", signed=True)
        digits = Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -kind.params[1]))
        return f"{digits:f}"
    value = packer.unpack("<" + FIXED[kind.name], data)[0]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _number(value):
    return float(value) if isinstance(value, str) else value


def width(kind):
    return 16 if kind.name == "decimal" else packer.calcsize("<" + FIXED[kind.name])


def empty(kind):
    """What stands under a null: the fields of a null struct are null only where they may be."""
    if kind.name == "struct":
        return {n: None if t.nullable else empty(t) for n, t in kind.children}
    return {"bool": False, "decimal": "0", "utf8": "", "binary": "", "list": [], "map": []}.get(kind.name, 0)


# ---- columns

def bits(flags):
    out = bytearray((len(flags) + 7) // 8)
    for i, flag in enumerate(flags):
        if flag:
            out[i // 8] |= 1 << (i % 8)
    return bytes(out)


def bit(data, i):
    return bool(data[i // 8] >> (i % 8) & 1)


def slot_count(kind):
    own = {"utf8": 3, "binary": 3, "list": 2, "map": 2, "struct": 1}.get(kind.name, 2)
    return own + sum(slot_count(t) for _, t in kind.children)


def absent(kind):
    return [b""] * slot_count(kind)


def column(kind, values):
    """The slots of a column, as bytes; empty = absent."""
    present = [v is not None for v in values]
    slots = [b"" if all(present) else bits(present)]
    filled = [empty(kind) if v is None else v for v in values]
    if kind.name == "bool":
        slots.append(bits(filled))
    elif kind.name in ("utf8", "binary"):
        parts = [bytes.fromhex(v) if kind.name == "binary" else v.encode() for v in filled]
        slots += [_offsets([len(p) for p in parts]), b"".join(parts)]
    elif kind.name == "list":
        slots.append(_offsets([len(v) for v in filled]))
        slots += column(kind.children[0][1], [x for v in filled for x in v])
    elif kind.name == "struct":
        for name, child in kind.children:
            slots += column(child, [v[name] for v in filled])
    elif kind.name == "map":
        slots.append(_offsets([len(v) for v in filled]))
        slots += column(kind.children[0][1], [k for v in filled for k, _ in v])
        slots += column(kind.children[1][1], [x for v in filled for _, x in v])
    else:
        slots.append(b"".join(pack(kind, v) for v in filled))
    return slots


def _offsets(lengths):
    if not lengths:
        return b""
    at, out = 0, [0]
    for length in lengths:
        at += length
        out.append(at)
    return packer.pack(f"<{len(out)}i", *out)


def read_column(kind, slots, rows):
    """The values of a column, taken off the front of `slots`."""
    validity = slots.pop(0)
    name = kind.name
    if name == "bool":
        data = slots.pop(0)
        values = [bit(data, i) for i in range(rows)]
    elif name in ("utf8", "binary"):
        ends, data = read_offsets(slots.pop(0), rows), slots.pop(0)
        parts = [data[a:b] for a, b in zip(ends, ends[1:])]
        values = [p.hex() if name == "binary" else p.decode() for p in parts]
    elif name == "list":
        ends = read_offsets(slots.pop(0), rows)
        items = read_column(kind.children[0][1], slots, ends[-1])
        values = [items[a:b] for a, b in zip(ends, ends[1:])]
    elif name == "struct":
        fields = [(n, read_column(t, slots, rows)) for n, t in kind.children]
        values = [{n: v[i] for n, v in fields} for i in range(rows)]
    elif name == "map":
        ends = read_offsets(slots.pop(0), rows)
        keys = read_column(kind.children[0][1], slots, ends[-1])
        items = read_column(kind.children[1][1], slots, ends[-1])
        pairs = [[k, v] for k, v in zip(keys, items)]
        values = [pairs[a:b] for a, b in zip(ends, ends[1:])]
    else:
        data, size = slots.pop(0), width(kind)
        values = [unpack(kind, data[i * size:(i + 1) * size]) for i in range(rows)]
    return [None if validity and not bit(validity, i) else v for i, v in enumerate(values)]


def read_offsets(data, rows):
    return list(packer.unpack(f"<{rows + 1}i", data)) if rows else [0]


# ---- frames

def padded(n):
    return (n + 63) & ~63


def frame(header, slots):
    directory, body = b"", bytearray()
    start = padded(64 + 8 * len(slots))
    for slot in slots:
        if not slot:
            directory += packer.pack("<II", 0, 0)
            continue
        body += bytes(padded(len(body)) - len(body))
        directory += packer.pack("<II", start + len(body), len(slot))
        body += slot
    head = header + bytes(64 - len(header)) + directory
    return head + bytes(start - len(head)) + bytes(body) + bytes(padded(len(body)) - len(body))


def slots_of(data):
    count = packer.unpack_from("<I", data, 4)[0]
    entries = [packer.unpack_from("<II", data, 64 + 8 * i) for i in range(count)]
    return [data[at:at + length] for at, length in entries]


def numbers(code, values):
    return b"" if values is None else packer.pack(f"<{len(values)}{code}", *values)


def read_numbers(code, data):
    size = packer.calcsize("<" + code)
    return list(packer.unpack(f"<{len(data) // size}{code}", data)) if data else None


def state_types(states):
    return [parse(s["type"]).as_nullable() for s in states if s["access"] == "column"]


def encode_bundle(kind, binding, m):
    slots = []
    for field, values in zip(binding["arguments"], m["arguments"]):
        slots += some_column(parse(field["type"]), values)
    slots.append(numbers("q", m["event_times"]))
    slots.append(numbers("B", m["row_kinds"]))
    slots.append(numbers("I", m["key_index"]))
    for field, values in zip(binding["key"], m["key_columns"]):
        slots += column(parse(field["type"]), values)
    slots += [b""] * 3
    states = state_types(binding["states"])
    for state, values in zip(states, m["states"]):
        slots += column(state, values)
    if kind == "aggregate":
        for state, values in zip(states, m["sources"]):
            slots += some_column(state, values)
    header = packer.pack(
        "<IIIIIIqqQ", BUNDLE_MAGIC, len(slots), m["function"], m["operation"], m["rows"], m["keys"],
        m["watermark"], m["processing_time"], m["seed"],
    )
    return frame(header, slots)


def some_column(kind, values):
    return absent(kind) if values is None else column(kind, values)


def decode_bundle(kind, binding, data):
    head = packer.unpack_from("<IIIIIIqqQ", data)
    m = dict(zip(("function", "operation", "rows", "keys", "watermark", "processing_time", "seed"), head[2:]))
    slots, rows, keys = slots_of(data), m["rows"], m["keys"]
    merge = kind == "aggregate" and m["operation"] == 3
    m["arguments"] = [maybe(parse(f["type"]), slots, rows, merge) for f in binding["arguments"]]
    m["event_times"] = read_numbers("q", slots.pop(0))
    m["row_kinds"] = read_numbers("B", slots.pop(0))
    m["key_index"] = read_numbers("I", slots.pop(0))
    m["key_columns"] = [read_column(parse(f["type"]), slots, keys) for f in binding["key"]]
    del slots[:3]
    states = state_types(binding["states"])
    m["states"] = [read_column(t, slots, keys) for t in states]
    m["sources"] = [maybe(t, slots, rows, not merge) for t in states] if kind == "aggregate" else []
    assert not slots
    return m


def maybe(kind, slots, rows, is_absent):
    if is_absent:
        del slots[:slot_count(kind)]
        return None
    return read_column(kind, slots, rows)


def encode_effects(result, states, m):
    slots = column(parse(result), m["output"])
    slots.append(numbers("I", m["source_rows"]))
    slots.append(numbers("B", m["row_kinds"]))
    for state, written in zip(state_types(states), m["states"]):
        slots += absent(state) + [b""] if written is None else column(state, written["values"]) + [bits(written["written"])]
    slots += [b""] * 3
    errors = m["errors"]
    slots.append(numbers("I", [e["row"] for e in errors]))
    for part in ("kind", "message", "traceback"):
        texts = [e[part].encode() for e in errors]
        slots += [_offsets([len(t) for t in texts]), b"".join(texts)]
    slots += [b""] * 2
    return frame(packer.pack("<IIII", EFFECTS_MAGIC, len(slots), m["status"], len(m["output"])), slots)


def decode_effects(result, states, keys, data):
    _, _, status, rows = packer.unpack_from("<IIII", data)
    slots = slots_of(data)
    m = {"status": status, "output": read_column(parse(result), slots, rows)}
    m["source_rows"] = read_numbers("I", slots.pop(0))
    m["row_kinds"] = read_numbers("B", slots.pop(0))
    m["states"] = []
    for state in state_types(states):
        if not slots[slot_count(state)]:
            del slots[:slot_count(state) + 1]
            m["states"].append(None)
            continue
        values = read_column(state, slots, keys)
        written = slots.pop(0)
        m["states"].append({"values": values, "written": [bit(written, i) for i in range(keys)]})
    del slots[:3]
    rows_failed = read_numbers("I", slots.pop(0)) or []
    texts = []
    for _ in range(3):
        ends, text = read_offsets(slots.pop(0), len(rows_failed)), slots.pop(0)
        texts.append([text[a:b].decode() for a, b in zip(ends, ends[1:])])
    m["errors"] = [dict(zip(("row", "kind", "message", "traceback"), e)) for e in zip(rows_failed, *texts)]
    return m


# ---- single values, as behind state.get and state.put

def encode_value(kind, value):
    if kind.nullable:
        return b"\0" if value is None else b"\1" + _value(kind, value)
    return _value(kind, value)


def _value(kind, value):
    if kind.name == "bool":
        return bytes([value])
    if kind.name in ("utf8", "binary"):
        data = value.encode() if kind.name == "utf8" else bytes.fromhex(value)
        return packer.pack("<I", len(data)) + data
    if kind.name == "list":
        return packer.pack("<I", len(value)) + b"".join(encode_value(kind.children[0][1], v) for v in value)
    if kind.name == "struct":
        return b"".join(encode_value(t, value[n]) for n, t in kind.children)
    if kind.name == "map":
        (_, key), (_, item) = kind.children
        return packer.pack("<I", len(value)) + b"".join(encode_value(key, k) + encode_value(item, v) for k, v in value)
    return pack(kind, value)


def decode_value(kind, data, at=0):
    """The value at `at`, and where it ends."""
    if kind.nullable:
        if data[at] == 0:
            return None, at + 1
        at += 1
    if kind.name == "bool":
        return bool(data[at]), at + 1
    if kind.name == "struct":
        out = {}
        for name, child in kind.children:
            out[name], at = decode_value(child, data, at)
        return out, at
    if kind.name in FIXED or kind.name == "decimal":
        return unpack(kind, data[at:at + width(kind)]), at + width(kind)
    count = packer.unpack_from("<I", data, at)[0]
    at += 4
    if kind.name in ("utf8", "binary"):
        part = data[at:at + count]
        return part.hex() if kind.name == "binary" else part.decode(), at + count
    out = []
    for _ in range(count):
        parts = []
        for _, child in kind.children:
            value, at = decode_value(child, data, at)
            parts.append(value)
        out.append(parts if kind.name == "map" else parts[0])
    return out, at
