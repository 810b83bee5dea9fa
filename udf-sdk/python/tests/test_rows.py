"""Row: the plain one and the codec's behave the same."""

import collections
import copy
import pickle

import pytest
from wasmill import rows
from wasmill.rows import PlainRow, RowKind


def kinds():
    yield pytest.param(PlainRow, id="plain")
    yield pytest.param(rows.Row, id="in use")


@pytest.fixture(params=kinds())
def Row(request, monkeypatch):
    if request.param is PlainRow:
        monkeypatch.setattr(rows, "Row", PlainRow)
        monkeypatch.setattr(rows, "restore", rows.plain_restore)
    return request.param


def test_the_codec_s_row_is_the_one_in_use(codec):
    assert rows.Row is codec.raw.Row and rows.Row is not PlainRow


def test_access(Row):
    row = Row(carrier="UA", delay=3.5)
    assert (row.carrier, row["delay"], row[0], row[-1]) == ("UA", 3.5, "UA", 3.5)
    assert list(row) == ["UA", 3.5] and len(row) == 2 and row[0:1] == ["UA"] and "UA" in row
    row.delay, row[0] = 4, "AA"
    row["carrier"] += "!"
    assert row.as_dict() == {"carrier": "AA!", "delay": 4} and repr(row) == "Row(carrier='AA!', delay=4)"
    assert row.get_fields_by_names(["delay", "carrier"]) == [4, "AA!"]


def test_without_names(Row):
    row = Row("UA", 3.5)
    assert row[1] == 3.5 and repr(row) == "Row('UA', 3.5)"
    with pytest.raises(AttributeError, match="Row has no field 'carrier': it has no names"):
        row.carrier
    with pytest.raises(TypeError, match="cannot be a dict"):
        row.as_dict()
    row.set_field_names(["carrier", "delay"])
    assert row.carrier == "UA"
    with pytest.raises(ValueError, match="wants 2 different names"):
        row.set_field_names(["a", "a"])


def test_a_row_of_names_makes_rows(Row):
    Flight = Row("carrier", "delay")
    assert Flight("UA", 3.5) == Row(carrier="UA", delay=3.5)
    with pytest.raises(TypeError, match="wants 2 values"):
        Flight(1)


@pytest.mark.parametrize("use", [lambda r: r.b, lambda r: setattr(r, "b", 1)])
def test_missing_attributes(Row, use):
    with pytest.raises(AttributeError, match="Row has no field 'b': it has 'a'"):
        use(Row(a=1))


def test_missing_items(Row):
    row = Row(a=1)
    with pytest.raises(KeyError, match="Row has no field 'b': it has 'a'"):
        row["b"]
    with pytest.raises(IndexError, match="it has 1 fields"):
        row[1]
    with pytest.raises(IndexError, match="it has 1 fields"):
        row[-2] = 0
    with pytest.raises(TypeError):
        row[1.5]
    with pytest.raises(ValueError, match="not both"):
        Row(1, a=2)
    assert not hasattr(row, "b") and not hasattr(row, "__len_hint__")


def test_equality_hash_copies(Row):
    a, b = Row(x=1, y=[2]), Row(x=1, y=[2])
    assert a == b and a != Row(x=1, z=[2]) and a != (1, [2]) and Row(1, 2) == Row(1, 2) != Row(1, 3)
    assert len({Row(1, "a"), Row(1, "a")}) == 1
    shallow, deep = copy.copy(a), copy.deepcopy(a)
    a.y.append(3)
    assert shallow.y == [2, 3] and deep.y == [2]
    assert pickle.loads(pickle.dumps(a)) == a
    a.x = 9
    assert shallow.x == 1


def test_nested_dicts(Row):
    assert Row(a=Row(b=1), c=[Row(d=2)], e={"k": Row(f=3)}).as_dict(True) == {"a": {"b": 1}, "c": [{"d": 2}], "e": {"k": {"f": 3}}}


def test_kinds(Row):
    row = Row(a=1)
    assert row.get_row_kind() is RowKind.INSERT
    row.set_row_kind(RowKind.DELETE)
    assert row.get_row_kind() is RowKind.DELETE and row != Row(a=1) and str(RowKind.UPDATE_BEFORE) == "-U"
    assert copy.copy(row).get_row_kind() is RowKind.DELETE


# ---- views: rows of a bundle whose fields are made when asked for

STRUCT = "struct<a: int64, b: utf8?, c: date>"
COLUMN = [{"a": i, "b": None if i == 1 else f"t{i}", "c": i} for i in range(4)]


def test_a_row_that_is_kept_outlives_its_bundle(codec):
    kept = []
    function = codec("map", lambda row: kept.append(row) or row.a, [STRUCT], "int64")
    assert function.run(arguments=[COLUMN])["output"] == [0, 1, 2, 3]
    function.run(arguments=[[{"a": 99, "b": "zz", "c": 99}] * 4])
    assert [(r.a, r.b, r.c.toordinal() - 719163) for r in kept[:4]] == [(0, "t0", 0), (1, None, 1), (2, "t2", 2), (3, "t3", 3)]


def given():
    def f(row):
        yield row

    return f


def given_twice_or_not_at_all():
    def f(row):
        for _ in range(row.a % 3):
            yield row

    return f


def given_then_failed():
    def f(row):
        yield row
        if row.a % 5 == 2:
            raise ValueError(row.a)

    return f


def changed_and_given():
    def f(row):
        row.a, row["b"] = row.a + 1000, f"{row.b}!"
        yield row

    return f


def kept_for(count):
    def make():
        kept = collections.deque(maxlen=count)

        def f(row):
            kept.append(row)
            yield from kept

        return f

    return make


def before():
    """The row before: held while the next one is at work."""
    last = [None]

    def f(row):
        held, last[0] = last[0], row
        return (held.a if held else -1) * 1000 + row.a

    return f


def lengths(rows):
    """Bundles of sizes on both sides of what a loop of bytecode is worth."""
    sizes = [1, 7, 8, 9, 40, 2, 30, 8]
    while sizes and rows:
        yield rows[:sizes[0]]
        rows, sizes = rows[sizes[0]:], sizes[1:]


@pytest.mark.parametrize("make", [given, given_twice_or_not_at_all, given_then_failed, changed_and_given, kept_for(1), kept_for(2), kept_for(3), before])
def test_rows_that_are_held_are_what_they_were(codec, make):
    value = make is before
    column = [{"a": i, "b": f"t{i}" if i % 4 else None} for i in range(105)]
    called = make()
    function = codec("map" if value else "table", called, ["struct<a: int64, b: utf8?>"], "int64" if value else "struct<a: int64, b: utf8?>")
    plain = make()
    for bundle in lengths(column):
        got = function.run(arguments=[bundle])
        wanted, failed = [], []
        for at, fields in enumerate(bundle):
            try:
                out = plain(PlainRow(**fields))
                wanted += [out] if value else [r.as_dict() for r in out]
            except ValueError as error:
                failed.append((at, str(error)))
        assert [(e["row"], e["message"]) for e in got["errors"]] == failed
        assert got["output"] == wanted


def test_a_row_that_is_changed_is_changed_for_itself(codec):
    def f(row):
        before = row.a
        row.a = 100 + before
        row.set_field_names(["x", "y", "z"])
        return row.x * 1000 + before

    assert codec("map", f, [STRUCT], "int64").run(arguments=[COLUMN])["output"] == [100000, 101001, 102002, 103003]


def test_a_field_that_python_cannot_hold_fails_when_it_is_asked_for(codec):
    column = [dict(COLUMN[0], c=c) for c in (0, 10**8, 0)]
    assert codec("map", lambda row: row.a, [STRUCT], "int64").run(arguments=[column])["errors"] == []
    asked = codec("map", lambda row: row.c and 1, [STRUCT], "int64").run(arguments=[column])
    assert [(e["row"], e["kind"]) for e in asked["errors"]] == [(1, "OverflowError")]
    kept = []
    escaped = codec("map", lambda row: kept.append(row) or 1, [STRUCT], "int64").run(arguments=[column])
    assert [e["row"] for e in escaped["errors"]] == [1] and kept[1].c is None and kept[2].c is not None


def test_rows_of_generators_that_live_on(codec):
    alive = []

    def f(row):
        alive.append(row)
        for _ in range(2):
            yield row.b

    got = codec("table", f, [STRUCT], "utf8?").run(arguments=[COLUMN])
    assert got["output"] == ["t0", "t0", None, None, "t2", "t2", "t3", "t3"] and [r.a for r in alive] == [0, 1, 2, 3]


def test_rows_given_on_by_name_in_another_order(codec):
    got = codec("map", lambda row: row, [STRUCT], "struct<c: date, a: int64, b: utf8?>").run(arguments=[COLUMN])
    assert got["output"] == [{"c": r["c"], "a": r["a"], "b": r["b"]} for r in COLUMN]
    wrong = codec("map", lambda row: row, [STRUCT], "struct<c: date, a: int64, z: utf8?>").run(arguments=[COLUMN[:1]])
    assert 'lacks the field "z"' in wrong["errors"][0]["message"]


def test_input_rows_know_their_kind(codec):
    got = codec("map", lambda row: row.get_row_kind().value, [STRUCT], "int64").run(arguments=[COLUMN], row_kinds=[0, 3, 1, 2])
    assert got["output"] == [0, 3, 1, 2]
