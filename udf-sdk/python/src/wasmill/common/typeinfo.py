"""The names of `pyflink.common.typeinfo`."""

from ..types import Types

__all__ = ["Types"]
