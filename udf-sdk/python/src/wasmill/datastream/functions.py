"""The names of `pyflink.datastream.functions`."""

from . import *  # noqa: F401,F403
from . import __all__  # noqa: F401
from ..later import missing_of

__getattr__ = missing_of(__name__)
