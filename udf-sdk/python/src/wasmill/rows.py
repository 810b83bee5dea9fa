"""Rows: what a struct is in Python. Names and behaviour are those of PyFlink's `Row`."""

from enum import Enum


class RowKind(Enum):
    """What a row does to a changing table."""

    INSERT = 0
    UPDATE_BEFORE = 1
    UPDATE_AFTER = 2
    DELETE = 3

    def __str__(self):
        return ("+I", "-U", "+U", "-D")[self.value]


class Row:
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
        setter = object.__setattr__
        setter(self, "_shape", {name: i for i, name in enumerate(kwargs)} if kwargs else None)
        setter(self, "_values", list(kwargs.values()) if kwargs else list(args))
        setter(self, "_kind", None)

    def __call__(self, *args):
        """A row whose names are the values of this one."""
        if len(args) != len(self._values):
            raise TypeError(f"Row wants {len(self._values)} values for {self._values}, got {len(args)}")
        return restore({name: i for i, name in enumerate(self._values)}, list(args))

    # ---- names
    def _index(self, name):
        shape = self._shape
        if shape is None or name not in shape:
            have = "it has no names" if shape is None else "it has " + ", ".join(map(repr, shape))
            raise KeyError(f"Row has no field {name!r}: {have}")
        return shape[name]

    def __getitem__(self, key):
        return self._values[self._index(key) if isinstance(key, str) else key]

    def __setitem__(self, key, value):
        self._values[self._index(key) if isinstance(key, str) else key] = value

    def __getattr__(self, name):
        shape = self._shape
        if shape is not None and name in shape:
            return self._values[shape[name]]
        have = "it has no names" if shape is None else "it has " + ", ".join(map(repr, shape))
        raise AttributeError(f"Row has no field {name!r}: {have}")

    def __setattr__(self, name, value):
        if name in Row.__slots__:
            object.__setattr__(self, name, value)
        else:
            try:
                self._values[self._index(name)] = value
            except KeyError as error:
                raise AttributeError(error.args[0]) from None

    def __contains__(self, item):
        return item in self._values

    def set_field_names(self, names):
        """Gives the values names, in their order."""
        names = list(names)
        if len(names) != len(self._values) or len(set(names)) != len(names):
            raise ValueError(f"wants {len(self._values)} different names, got {names}")
        self._shape = {name: i for i, name in enumerate(names)}

    def get_fields_by_names(self, names):
        """The values of some fields."""
        return [self[name] for name in names]

    def as_dict(self, recursive=False):
        """Names to values."""
        if self._shape is None:
            raise TypeError("a Row without names cannot be a dict")
        return {name: _plain(self._values[i]) if recursive else self._values[i] for name, i in self._shape.items()}

    # ---- kind
    def get_row_kind(self):
        """What the row does to a changing table; INSERT unless said otherwise."""
        return RowKind.INSERT if self._kind is None else RowKind(self._kind)

    def set_row_kind(self, row_kind):
        """Says what the row does; without, an output row has the kind of the row it comes from."""
        self._kind = row_kind.value

    # ---- a sequence
    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return iter(self._values)

    def __eq__(self, other):
        if not isinstance(other, Row):
            return NotImplemented
        if self._shape is not None and other._shape is not None and list(self._shape) != list(other._shape):
            return False
        return self._values == other._values and self.get_row_kind() == other.get_row_kind()

    def __hash__(self):
        return hash(tuple(self._values))

    def __repr__(self):
        if self._shape is None:
            return "Row(" + ", ".join(map(repr, self._values)) + ")"
        return "Row(" + ", ".join(f"{name}={self._values[i]!r}" for name, i in self._shape.items()) + ")"

    def __copy__(self):
        made = restore(self._shape, list(self._values))
        made._kind = self._kind
        return made

    def __reduce__(self):
        return (_unpickle, (self._shape, self._values, self._kind))


def _plain(value):
    if isinstance(value, Row):
        return value.as_dict(True) if value._shape is not None else [_plain(v) for v in value]
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


_new, _set_shape, _set_values, _set_kind = object.__new__, Row._shape.__set__, Row._values.__set__, Row._kind.__set__


def restore(shape, values):
    """A Row of a list of values and a dict of name to index, which it may share with others. The codec makes rows by this."""
    row = _new(Row)
    _set_shape(row, shape)
    _set_values(row, values)
    _set_kind(row, None)
    return row


def _unpickle(shape, values, kind):
    row = restore(shape, values)
    _set_kind(row, kind)
    return row
