"""Compares a `loads` with the standard library's, on documents that are made up: right ones, broken ones, and odd ones.

It runs in any Python, and as a UDF in the runner (test_json.py), so it imports nothing but the standard library.
"""

import json
import random

ODD = [
    "", " ", "\t\r\n", "\ufeff1", "nul", "nulll", "tru", "True", "NaN", "-Infinity", "Infinity", "[NaN]", "-", "--1", "+1", ".5", "1.", "01", "-01", "-0", "-0.0",
    "0e0", "-0e5", "1e", "1e+", "1E5", "1e5", "1e-5", "1e22", "1e23", "1.5e300", "1e999", "-1e999", "1e99999", "1e-99999", "5e-324", "2.5e-324",
    "9007199254740993.0", "9007199254740993", "0.1", "123456789.123456789", "1.7976931348623157e308", "3.141592653589793238462643383279502884",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
    "99999999999999999999", "9999999999999999999", "1" * 100, "-" + "7" * 40, "0." + "3" * 500, "1" * 400 + ".5", "1" * 5000,
    '"', '"a', '"\\"', '"\\', '"\\u', '"\\u00e', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00x"', '"\\u0000"', '"\\x"', '"\\u00zz"', '"\x00"',
    '"\x1f"', '"\n"', '"\x7f"', '"\\/\\b\\f\\n\\r\\t\\"\\\\"', '"é"', '"\ud800"', '"𝄞"', '"\\u07ff\\u0800\\uffff"',
    "[", "]", "[]", "[,]", "[1,]", "[1 2]", "[1,,2]", "[[]]", "[[]", "[]]", "[] []", "[1]x", " [1] ", "[1]\x00", "{", "}", "{}", "{,}", '{"a"}', '{"a":}',
    '{"a":1,}', '{"a":1 "b":2}', "{1:2}", '{"a":1}}', '{"a":1,"a":2}', '{"a":1,"b":2,"a":3}', '{"":0}', '{"\\u0061":1,"a":2}', '{"a":{"a":{"a":[]}}}',
    '{"é":1}', '{"\x00":1}', '{a:1}', "{'a':1}", "[" * 50 + "]" * 50, "[" * 64 + "]" * 64, "[" * 65 + "]" * 65, '{"a":' * 80 + "1" + "}" * 80,
    '{"k' + "x" * 40 + '":1}', '{' + ",".join(f'"k{i}":{i}' for i in range(17)) + "}", "\u00a01", "1\u2028",
]
DEEP = ["[" * 90000, "[" * 90000 + "]" * 90000, '{"a":' * 90000]  # the runner's own stack ends before
WORDS = ["id", "name", "amount", "tags", "address", "city", "a", "b", "", "ключ", "long key that is longer than any that is kept", "x y", "\\u0041", "\\n"]


def number(rng):
    """The text of a number."""
    kind = rng.randrange(6)
    if kind == 0:
        return str(rng.randrange(-1000, 1000))
    if kind == 1:
        return str(rng.getrandbits(rng.randrange(1, 80)) * rng.choice([1, -1]))
    if kind == 2:
        return repr(rng.uniform(-1e6, 1e6))
    if kind == 3:
        return f"{rng.getrandbits(60)}e{rng.randrange(-340, 320)}"
    if kind == 4:
        return f"{rng.randrange(10**rng.randrange(1, 20))}.{rng.randrange(10**rng.randrange(1, 20)):05d}"
    return f"{rng.choice(['', '-'])}0.{'0' * rng.randrange(25)}{rng.getrandbits(rng.randrange(1, 70))}"


def text(rng):
    """The text of a string."""
    parts = rng.choices(["plain", " ", "ü", "日本", "😀", "\\n", "\\\\", '\\"', "\\u00fc", "\\u65e5", "\\ud83d\\ude00", "/", "x" * 20], k=rng.randrange(5))
    return '"' + "".join(parts) + '"'


def document(rng, depth=0):
    """The text of a value."""
    space = rng.choice(["", "", "", " ", "\n  "])
    kind = rng.randrange(8 if depth < 5 else 5)
    if kind == 0:
        return rng.choice(["null", "true", "false"])
    if kind in (1, 2):
        return number(rng)
    if kind in (3, 4):
        return text(rng)
    if kind == 5:
        return "[" + f",{space}".join(document(rng, depth + 1) for _ in range(rng.randrange(6))) + space + "]"
    keys = rng.choices(WORDS, k=rng.randrange(5)) if rng.random() < 0.3 else WORDS[: rng.randrange(6)]
    return "{" + f",{space}".join(f'"{key}"{space}:{space}{document(rng, depth + 1)}' for key in keys) + "}"


def broken(rng, made):
    """The text with a character less, more or other, or cut."""
    at = rng.randrange(len(made) + 1)
    return made[:at] + rng.choice(["", ",", '"', "}", "]", "0", "\\", "\x01", "e", "\ud800", made[:5]]) + made[at + rng.randrange(3):]


def outcome(loads, source):
    """What a call gives: types and values, or all that can be known of the exception."""
    try:
        value = loads(source)
    except RecursionError:
        return "RecursionError"
    except Exception as error:
        more = [getattr(error, name, None) for name in ("msg", "doc", "pos", "lineno", "colno", "start", "end", "reason")]
        return type(error).__name__, str(error), more
    return shape(value)


def shape(value):
    """The value with its types. Floats by their digits: -0.0 is not 0.0."""
    if type(value) is dict:
        return "dict", [(shape(k), shape(v)) for k, v in value.items()]
    if type(value) is list:
        return "list", [shape(v) for v in value]
    return type(value).__name__, value.hex() if type(value) is float else hex(value) if type(value) is int else value


def check(loads, standard, seed, count, deep=True):
    """The documents that the two differ on."""
    rng, found = random.Random(seed), []

    def compare(source):
        if outcome(loads, source) != outcome(standard, source):
            found.append(source if len(source) < 300 else source[:300] + ("…" if isinstance(source, str) else b"..."))

    for source in ODD + DEEP * deep:
        compare(source)
        compare(source.encode("utf-8", "surrogatepass"))
        compare(f'{{"first": [{source}, 1], "second": {source}}}')
    for other in (1, None, b"[1]\x00", bytearray(b"[1]"), b"\xff\xfe1\x00", "[1]".encode("utf-16"), "1".encode("utf-32-be"), b"\x001", b"1\x00", type("S", (str,), {})("[1]")):
        compare(other) if isinstance(other, (str, bytes)) else found.extend([other] if outcome(loads, other) != outcome(standard, other) else [])
    for _ in range(count):
        made = document(rng)
        compare(made)
        compare(rng.choice([made.encode("utf-8", "surrogatepass"), made.encode("utf-16"), json.dumps(made)]))
        compare(broken(rng, made))
    return found
