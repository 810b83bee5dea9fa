"""`Types` and `DataTypes` with PyFlink's names; both make the types of the contract.

Like PyFlink's, they hold None unless told otherwise (`DataTypes.INT(False)`, `DataTypes.INT().not_null()`).
"""

from .notation import DataType, TypeNotationError, parse


def _t(name, nullable=True, params=(), fields=()):
    return DataType(name, nullable, params, fields)


def _unit(precision):
    if not 0 <= precision <= 9:
        raise ValueError(f"a timestamp has 0 to 9 digits of a second, not {precision}")
    return "s" if precision == 0 else "ms" if precision <= 3 else "us" if precision <= 6 else "ns"


def _element(what):
    return resolve(what)


class Types:
    """PyFlink's `pyflink.common.Types`."""

    STRING = staticmethod(lambda: _t("utf8"))
    CHAR = staticmethod(lambda: _t("utf8"))
    BOOLEAN = staticmethod(lambda: _t("bool"))
    BYTE = staticmethod(lambda: _t("int8"))
    SHORT = staticmethod(lambda: _t("int16"))
    INT = staticmethod(lambda: _t("int32"))
    LONG = staticmethod(lambda: _t("int64"))
    FLOAT = staticmethod(lambda: _t("float32"))
    DOUBLE = staticmethod(lambda: _t("float64"))
    BIG_INT = staticmethod(lambda: _t("decimal", params=(38, 0)))
    BIG_DEC = staticmethod(lambda: _t("decimal", params=(38, 18)))
    SQL_DATE = staticmethod(lambda: _t("date"))
    SQL_TIME = staticmethod(lambda: _t("time"))
    SQL_TIMESTAMP = staticmethod(lambda: _t("timestamp", params=("us",)))
    INSTANT = staticmethod(lambda: _t("timestamp", params=("us", "UTC")))

    @staticmethod
    def ROW(types):
        """A row whose fields are called f0, f1, …"""
        return Types.ROW_NAMED([f"f{i}" for i in range(len(types))], types)

    TUPLE = ROW

    @staticmethod
    def ROW_NAMED(names, types):
        """A row with names."""
        if len(names) != len(types) or len(set(names)) != len(names):
            raise ValueError(f"ROW_NAMED wants as many different names as types, got {len(names)} and {len(types)}")
        return _t("struct", fields=[(n, _element(t)) for n, t in zip(names, types)])

    @staticmethod
    def LIST(element):
        """A list."""
        return _t("list", fields=[("item", _element(element))])

    BASIC_ARRAY = OBJECT_ARRAY = LIST

    @staticmethod
    def PRIMITIVE_ARRAY(element):
        """A list without None; of BYTE: bytes."""
        element = _element(element)
        return _t("binary") if element.name == "int8" else _t("list", fields=[("item", element.not_null())])

    @staticmethod
    def MAP(key, value):
        """A dict."""
        return _t("map", fields=[("key", _element(key).not_null()), ("value", _element(value))])

    @staticmethod
    def PICKLED_BYTE_ARRAY():
        """Not supported: state and rows are typed, so that other languages can read them."""
        raise TypeNotationError("PICKLED_BYTE_ARRAY: Wasmill keeps typed values only: name the type, for example Types.ROW_NAMED(...)")


class DataTypes:
    """PyFlink's `pyflink.table.DataTypes`. `nullable` is True unless given."""

    STRING = staticmethod(lambda nullable=True: _t("utf8", nullable))
    CHAR = staticmethod(lambda length=1, nullable=True: _t("utf8", nullable))
    VARCHAR = staticmethod(lambda length=1, nullable=True: _t("utf8", nullable))
    BINARY = staticmethod(lambda length=1, nullable=True: _t("binary", nullable))
    VARBINARY = staticmethod(lambda length=1, nullable=True: _t("binary", nullable))
    BYTES = staticmethod(lambda nullable=True: _t("binary", nullable))
    BOOLEAN = staticmethod(lambda nullable=True: _t("bool", nullable))
    TINYINT = staticmethod(lambda nullable=True: _t("int8", nullable))
    SMALLINT = staticmethod(lambda nullable=True: _t("int16", nullable))
    INT = staticmethod(lambda nullable=True: _t("int32", nullable))
    BIGINT = staticmethod(lambda nullable=True: _t("int64", nullable))
    FLOAT = staticmethod(lambda nullable=True: _t("float32", nullable))
    DOUBLE = staticmethod(lambda nullable=True: _t("float64", nullable))
    DATE = staticmethod(lambda nullable=True: _t("date", nullable))
    TIME = staticmethod(lambda precision=6, nullable=True: _t("time", nullable))
    DECIMAL = staticmethod(lambda precision, scale, nullable=True: parse(f"decimal({precision},{scale})").as_nullable(nullable))
    TIMESTAMP = staticmethod(lambda precision=6, nullable=True: _t("timestamp", nullable, (_unit(precision),)))
    TIMESTAMP_LTZ = staticmethod(lambda precision=6, nullable=True: _t("timestamp", nullable, (_unit(precision), "UTC")))
    TIMESTAMP_WITH_LOCAL_TIME_ZONE = TIMESTAMP_LTZ

    @staticmethod
    def ARRAY(element_type, nullable=True):
        """A list."""
        return _t("list", nullable, fields=[("item", _element(element_type))])

    @staticmethod
    def MAP(key_type, value_type, nullable=True):
        """A dict."""
        return _t("map", nullable, fields=[("key", _element(key_type).not_null()), ("value", _element(value_type))])

    @staticmethod
    def FIELD(name, data_type, description=None):
        """A field of `ROW`."""
        return (name, _element(data_type))

    @staticmethod
    def ROW(row_fields=(), nullable=True):
        """A row with names; a field is `FIELD(name, type)` or a pair."""
        return _t("struct", nullable, fields=[(n, _element(t)) for n, t in row_fields])


# What PyFlink lets one write as a string.
_SQL = {
    "BOOLEAN": "bool", "TINYINT": "int8", "SMALLINT": "int16", "INT": "int32", "INTEGER": "int32", "BIGINT": "int64", "FLOAT": "float32",
    "DOUBLE": "float64", "STRING": "utf8", "VARCHAR": "utf8", "CHAR": "utf8", "BYTES": "binary", "DATE": "date", "TIME": "time",
    "TIMESTAMP": "timestamp(us)", "TIMESTAMP_LTZ": "timestamp(us,UTC)",
}


def resolve(what):
    """A DataType from a DataType, the notation (`int64?`), a simple SQL name (`BIGINT`) or an annotation (`Optional[int]`)."""
    if isinstance(what, DataType):
        return what
    if isinstance(what, str):
        word = what.strip().split("(")[0].upper()
        if word in _SQL and what.strip()[:1].isupper():
            return parse(_SQL[word]).as_nullable()
        return parse(what)
    from .annotations import of_annotation

    return of_annotation(what)
