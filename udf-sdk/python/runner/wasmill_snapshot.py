"""Makes componentize-py's snapshot of the interpreter one that instances share: they write to few of its pages."""

import gc
import types

import _wasmill_codec as codec

# They belong to the code that runs while the snapshot is made.
_PASSING = (types.FrameType, types.GeneratorType, types.CoroutineType, types.TracebackType)


def _parts(value):
    """What an object refers to: what the collector knows, and the parts of code, which it does not know."""
    parts = gc.get_referents(value)
    if isinstance(value, types.CodeType):
        parts += (value.co_consts, value.co_names, value.co_name, value.co_qualname, value.co_filename, value.co_linetable, value.co_exceptiontable)
        parts += value.co_varnames + value.co_freevars + value.co_cellvars
    return [part for part in parts if not isinstance(part, _PASSING)]


def settle():
    """What is there now stays for good: nobody need count references to it or look for garbage in it, and what is made later does
    not lie between."""
    gc.collect()
    waiting = codec.immortal([value for value in gc.get_objects() if not isinstance(value, _PASSING)])
    while waiting:
        waiting += codec.immortal(_parts(waiting.pop()))
    codec.fill()
    gc.freeze()
    del codec.immortal, codec.fill  # not for programs
