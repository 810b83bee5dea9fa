"""The names of `pyflink.table.types`."""

from ..later import missing_of
from ..types import DataTypes

__all__ = ["DataTypes"]

__getattr__ = missing_of(__name__)
