"""The names of `pyflink.table` that a function needs."""

from ..declare import udaf, udf, udtf
from ..functions import AggregateFunction, RuntimeContext, ScalarFunction, TableFunction
from ..later import missing_of
from ..rows import Row, RowKind
from ..types import DataTypes

FunctionContext = RuntimeContext

__all__ = ["AggregateFunction", "DataTypes", "FunctionContext", "Row", "RowKind", "ScalarFunction", "TableFunction", "udaf", "udf", "udtf"]

__getattr__ = missing_of(__name__)
