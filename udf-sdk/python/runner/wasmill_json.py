"""`json.loads`, for what documents are mostly, in C. What is odd goes to the standard library's function, as do its other ways in."""

import inspect
import json

import _wasmill_codec as codec


def install():
    """Puts it in the place of the standard function, whose name, module, signature and documentation it keeps."""
    standard = json.loads
    documentation = f"loads{inspect.signature(standard)}\n--\n\n{standard.__doc__}"
    json.loads = codec.json_loads(standard, "json", documentation)
