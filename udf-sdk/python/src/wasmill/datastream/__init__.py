"""The names of `pyflink.datastream` that a function needs: change the import, keep the class."""

from ..functions import (
    FilterFunction, FlatMapFunction, Function, KeyedProcessFunction, MapFunction, ProcessFunction, ReduceFunction, RuntimeContext,
    TimerService, ValueStateDescriptor,
)
from ..functions import AggregateFunction
from ..later import missing_of

__all__ = [
    "AggregateFunction", "FilterFunction", "FlatMapFunction", "Function", "KeyedProcessFunction", "MapFunction", "ProcessFunction",
    "ReduceFunction", "RuntimeContext", "TimerService", "ValueStateDescriptor",
]

__getattr__ = missing_of(__name__)
