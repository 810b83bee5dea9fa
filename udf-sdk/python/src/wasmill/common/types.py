"""The names of `pyflink.common.types`."""

from ..rows import Row, RowKind

__all__ = ["Row", "RowKind"]
