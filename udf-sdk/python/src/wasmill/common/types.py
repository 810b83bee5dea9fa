"""The names of `pyflink.common.types`."""

from ..later import missing_of
from ..rows import Row, RowKind

__all__ = ["Row", "RowKind"]

__getattr__ = missing_of(__name__)
