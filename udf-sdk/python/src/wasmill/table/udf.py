"""The names of `pyflink.table.udf`."""

from ..declare import udaf, udf, udtf
from ..functions import AggregateFunction, RuntimeContext, ScalarFunction, TableFunction, UserDefinedFunction
from ..later import missing_of

FunctionContext = RuntimeContext

__all__ = ["AggregateFunction", "FunctionContext", "ScalarFunction", "TableFunction", "UserDefinedFunction", "udaf", "udf", "udtf"]

__getattr__ = missing_of(__name__)
