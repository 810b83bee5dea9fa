"""Exceptions as the user should read them: one line that names file and line, and a traceback without our own frames."""

import sys
import traceback

_OURS = ("wasmill_sources.py", "wasmill_problems.py", "wasmill_runner.py", "wasmill_files.py", "<frozen importlib", "/wasmill/", "importlib/")
# Imports that people try, whose packages are native code.
_NATIVE = frozenset(
    "numpy pandas pyarrow scipy sklearn torch tensorflow polars cryptography lxml grpc psycopg2 cv2 PIL duckdb orjson ujson pydantic_core "
    "regex rapidfuzz msgpack xgboost lightgbm matplotlib cffi greenlet zmq uvloop".split()
)

_NOT_HERE = "the SDK has functions, types and state only; sources, sinks, watermarks and windows are said in the job file"


def _ours(filename):
    return any(part in filename for part in _OURS)


def traceback_text(error):
    """The traceback, without the frames of the runner."""
    shown = traceback.TracebackException.from_exception(error)
    _trim(shown)
    return "".join(shown.format())


def _trim(shown):
    while shown is not None:
        shown.stack[:] = [frame for frame in shown.stack if not _ours(frame.filename)]
        if shown.__cause__ is not None:
            _trim(shown.__cause__)
        shown = shown.__context__


def refusal_of(error, program, paths):
    """Our own refusals say it all; before them stands the user's line that led to them, or the program."""
    return f"{_place(error, paths) or program + ': '}{error}"


def message_of(error, paths):
    """`legs.py:12: NameError: name 'x' is not defined`."""
    kind, text = type(error).__name__, str(error)
    where = _syntax_place(error) if isinstance(error, SyntaxError) else _place(error, paths)
    if isinstance(error, SyntaxError):
        text = error.msg or text
    if isinstance(error, ModuleNotFoundError):
        text += ": " + _hint(error.name or "", paths)
    elif isinstance(error, ImportError) and (error.name or "").split(".")[0] == "wasmill" and text.startswith("cannot import name"):
        text = text.split(" (")[0] + f": {_NOT_HERE}"
    return f"{where}{kind}: {text}" if text else f"{where}{kind}"


def _syntax_place(error):
    return f"{error.filename}:{error.lineno}: " if error.filename and error.lineno else ""


def _place(error, paths):
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename in paths:
            found = f"{frame.filename}:{frame.lineno}: "
    return found


def _hint(name, paths):
    top = name.split(".")[0].lstrip("_")
    if top in ("pyflink", "apache_flink"):
        return "write wasmill in place of pyflink: names of functions, types and state are the same"
    if top == "wasmill":
        return _NOT_HERE
    if top in _NATIVE:
        return f"{top} is native code, which the sandbox cannot load: use a package in pure Python, or write this UDF in Rust"
    if top in sys.stdlib_module_names:
        return f"the sandbox has no {top}: no network, threads or native libraries beyond the ones built in"
    if "__init__.py" in paths:
        return (
            "a folder among the UDF's `packages` is itself a package, since __init__.py lies in it: name the folder that contains it, "
            "under which its modules are found"
        )
    return (
        "it does not travel with the UDF: name it among the UDF's `packages` in the job file, which takes a folder, module.py, archive.zip or "
        "requirements.txt (pure Python only)"
    )


