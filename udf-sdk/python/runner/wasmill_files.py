"""`open` says what to do: there are no files, only what the job grants."""

import builtins
import functools
import io
import os

granted = set()  # names of resources
_HOW = "runtime_context.get_resource({!r}) gives its bytes, in the open() of a function class"


def install():
    """Puts it in the place of both names of the standard function."""
    standard = io.open

    @functools.wraps(standard)
    def open(*arguments, **named):
        try:
            return standard(*arguments, **named)
        except FileNotFoundError as error:
            error.strerror = f"{error.strerror}: {_advice(error.filename)}"
            raise

    builtins.open = io.open = open


def _advice(path):
    for name in (str(path), os.path.basename(str(path))):
        if name in granted:
            return f"the job grants it as a resource, not as a file: {_HOW.format(name)}"
    return "the sandbox has no files: name it in the UDF's `resources`; " + _HOW.format(os.path.basename(str(path)))
