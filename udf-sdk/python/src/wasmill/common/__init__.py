"""The names of `pyflink.common` that a function needs."""

from ..later import missing_of
from ..rows import Row, RowKind
from ..types import Types

__all__ = ["Row", "RowKind", "Types"]

__getattr__ = missing_of(__name__)
