"""The names of `pyflink.datastream.state`."""

from ..functions import StateDescriptor, ValueStateDescriptor

__all__ = ["StateDescriptor", "ValueStateDescriptor"]
