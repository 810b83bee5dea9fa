"""The names of `pyflink.table.types`."""

from ..types import DataTypes

__all__ = ["DataTypes"]
