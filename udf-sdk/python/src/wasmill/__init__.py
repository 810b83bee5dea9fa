"""Write UDFs for Wasmill in Python.

    from wasmill import udf

    @udf
    def late(delay: float) -> bool:
        return delay > 15

See README.md for every kind of function, the types, and testing.
"""

from .declare import DeclarationError, udaf, udf, udtf
from .functions import (
    AggregateFunction, Context, FilterFunction, FlatMapFunction, Function, KeyedProcessFunction, MapFunction, ProcessFunction,
    ReduceFunction, RuntimeContext, ScalarFunction, TableFunction, TimerService, UserDefinedFunction, ValueStateDescriptor,
)
from .later import missing_of
from .notation import DataType, TypeNotationError
from .rows import Row, RowKind
from .types import DataTypes, Types

# PyFlink's names for the same things.
FunctionContext = RuntimeContext

__version__ = "0.1.0"
__all__ = [
    "AggregateFunction", "Context", "DataType", "DataTypes", "DeclarationError", "FilterFunction", "FlatMapFunction", "Function",
    "FunctionContext", "KeyedProcessFunction", "MapFunction", "ProcessFunction", "ReduceFunction", "Row", "RowKind", "RuntimeContext",
    "ScalarFunction", "TableFunction", "TimerService", "TypeNotationError", "Types", "UserDefinedFunction", "ValueStateDescriptor",
    "udaf", "udf", "udtf",
]

__getattr__ = missing_of(__name__)
