"""The names of `pyflink.table.functions`."""

from ..functions import AggregateFunction, ScalarFunction, TableFunction

__all__ = ["AggregateFunction", "ScalarFunction", "TableFunction"]
