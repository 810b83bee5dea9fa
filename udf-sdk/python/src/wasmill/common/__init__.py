"""The names of `pyflink.common` that a function needs."""

from ..rows import Row, RowKind
from ..types import Types

__all__ = ["Row", "RowKind", "Types"]
