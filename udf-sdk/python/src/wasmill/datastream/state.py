"""The names of `pyflink.datastream.state`."""

from ..functions import StateDescriptor, ValueStateDescriptor
from ..later import missing_of

__all__ = ["StateDescriptor", "ValueStateDescriptor"]

__getattr__ = missing_of(__name__)
