"""Loops over the rows of a bundle that call a function from bytecode. The interpreter goes on in the same evaluation there, where the
codec would have to enter it for each row, and for a generator three times.

`rows` gives a row after the other, `emit` takes what comes out of it. Of a generator it says when it is enough for now: then the host
takes over. What a function raises ends the loop; the codec begins another one with the next row.
"""

import inspect


def _with_context(rows, function, emit, context):
    for row in rows:
        for item in function(row, context):
            if emit(item):
                yield


def _alone(rows, function, emit, context):
    for row in rows:
        for item in function(row):
            if emit(item):
                yield


def _value(rows, function, emit, context):
    for row in rows:
        emit(function(row))


def _folded(rows, function, emit, context):
    for accumulator, value in rows:
        emit(function(accumulator, value))


_LOOPS = {"scalar": _value, "map": _value, "filter": _value, "aggregate": _folded, "process": _with_context, "table": _alone}


def drive_of(kind, function, arguments):
    """The loop for a function, or None: the codec's own serves all functions, whatever they take and return."""
    if arguments != 1 or (kind in ("process", "table") and not inspect.isgeneratorfunction(function)):
        return None
    return _LOOPS.get(kind)
