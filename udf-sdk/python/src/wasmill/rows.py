"""Rows: what a struct is in Python. Names and behaviour are those of PyFlink's `Row`."""

import operator
import sys
from enum import Enum


class RowKind(Enum):
    """What a row does to a changing table."""

    INSERT = 0
    UPDATE_BEFORE = 1
    UPDATE_AFTER = 2
    DELETE = 3

    def __str__(self):
        return ("+I", "-U", "+U", "-D")[self.value]


def missing(row, name):
    """What to say when a row has no field of a name."""
    have = "it has no names" if row._shape is None else "it has " + ", ".join(map(repr, row._shape))
    return f"Row has no field {name!r}: {have}"


class _Methods:
    """What rows have beside their fields. `_shape` is a dict of name to index or None, `_values` a list, `_kind` a number or None."""

    __slots__ = ()

    def __call__(self, *args):
        """A row whose names are the values of this one."""
        if len(args) != len(self):
            raise TypeError(f"Row wants {len(self)} values for {self._values}, got {len(args)}")
        return restore({name: i for i, name in enumerate(self._values)}, list(args))

    def __contains__(self, item):
        return item in self._values

    def set_field_names(self, names):
        """Gives the values names, in their order."""
        names = list(names)
        if len(names) != len(self) or len(set(names)) != len(names):
            raise ValueError(f"wants {len(self)} different names, got {names}")
        self._shape = {name: i for i, name in enumerate(names)}

    def get_fields_by_names(self, names):
        """The values of some fields."""
        return [self[name] for name in names]

    def as_dict(self, recursive=False):
        """Names to values."""
        if self._shape is None:
            raise TypeError("a Row without names cannot be a dict")
        values = self._values
        return {name: _plain(values[i]) if recursive else values[i] for name, i in self._shape.items()}

    def get_row_kind(self):
        """What the row does to a changing table; INSERT unless said otherwise."""
        return RowKind.INSERT if self._kind is None else RowKind(self._kind)

    def set_row_kind(self, row_kind):
        """Says what the row does; without, an output row has the kind of the row it comes from."""
        self._kind = row_kind.value

    def __eq__(self, other):
        if not isinstance(other, Row):
            return NotImplemented
        if self._shape is not None and other._shape is not None and list(self._shape) != list(other._shape):
            return False
        return self._values == other._values and self.get_row_kind() == other.get_row_kind()

    def __hash__(self):
        return hash(tuple(self._values))

    def __repr__(self):
        values = self._values
        if self._shape is None:
            return "Row(" + ", ".join(map(repr, values)) + ")"
        return "Row(" + ", ".join(f"{name}={values[i]!r}" for name, i in self._shape.items()) + ")"

    def __copy__(self):
        made = restore(self._shape, self._values)
        made._kind = self._kind
        return made

    def __reduce__(self):
        return (_unpickle, (self._shape, self._values, self._kind))


class PlainRow(_Methods):
    """A row of values, reached by position, name or attribute.

        row = Row(carrier="UA", delay=3.5)
        row.carrier, row["delay"], row[0]

        Flight = Row("carrier", "delay")     # a row of names makes rows
        Flight("UA", 3.5)

    Without names it is what positions say: `Row("UA", 3.5)`.
    """

    __slots__ = ("_shape", "_values", "_kind")

    def __init__(self, *args, **kwargs):
        if args and kwargs:
            raise ValueError("Row takes values or names with values, not both")
        self._shape = {name: i for i, name in enumerate(kwargs)} if kwargs else None
        self._values = list(kwargs.values()) if kwargs else list(args)
        self._kind = None

    def _index(self, name):
        if self._shape is None or name not in self._shape:
            raise KeyError(missing(self, name))
        return self._shape[name]

    def _place(self, key):
        if isinstance(key, str):
            return self._index(key)
        place = operator.index(key)
        if not -len(self._values) <= place < len(self._values):
            raise IndexError(f"Row index out of range: it has {len(self._values)} fields")
        return place

    def __getitem__(self, key):
        return self._values[key if isinstance(key, slice) else self._place(key)]

    def __setitem__(self, key, value):
        self._values[self._place(key)] = value

    def __getattr__(self, name):
        if name in PlainRow.__slots__:  # asked for before __init__, by copy or pickle
            raise AttributeError(name)
        if self._shape is None or name not in self._shape:
            raise AttributeError(missing(self, name))
        return self._values[self._shape[name]]

    def __setattr__(self, name, value):
        if name in PlainRow.__slots__:
            object.__setattr__(self, name, value)
        elif self._shape is None or name not in self._shape:
            raise AttributeError(missing(self, name))
        else:
            self._values[self._shape[name]] = value

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return iter(self._values)


def plain_restore(shape, values):
    """A PlainRow of a list of values and a dict of name to index, which it may share with others."""
    row = PlainRow()
    row._shape, row._values = shape, list(values)
    return row


def _plain(value):
    if isinstance(value, Row):
        return value.as_dict(True) if value._shape is not None else [_plain(v) for v in value]
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _unpickle(shape, values, kind):
    row = restore(shape, values)
    row._kind = kind
    return row


def _in_c(codec):
    """The codec's Row, with the methods from here."""
    for name, method in vars(_Methods).items():
        if name not in ("__slots__", "__module__", "__doc__", "__qualname__", "__static_attributes__", "__firstlineno__"):
            setattr(codec.Row, name, method)
    codec.row_messages(missing)
    return codec.Row, codec.restore


PlainRow.__name__ = PlainRow.__qualname__ = "Row"  # what users call it, in annotations and messages, with the codec or without
_codec = sys.modules.get("_wasmill_codec")
Row, restore = (PlainRow, plain_restore) if _codec is None else _in_c(_codec)
