"""The names of `pyflink.common.typeinfo`."""

from ..later import missing_of
from ..types import Types

__all__ = ["Types"]

__getattr__ = missing_of(__name__)
