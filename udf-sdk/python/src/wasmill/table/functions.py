"""The names of `pyflink.table.functions`."""

from ..functions import AggregateFunction, ScalarFunction, TableFunction
from ..later import missing_of

__all__ = ["AggregateFunction", "ScalarFunction", "TableFunction"]

__getattr__ = missing_of(__name__)
