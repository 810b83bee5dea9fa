"""The natively built codec, bound to plain Python functions."""

import datetime
import decimal
import traceback
import types

import _wasmill_codec as raw
import frames
from wasmill import binding, drive
from wasmill.notation import DataType, parse


def set_up():
    """Once in a process."""
    raw.setup(
        (
            decimal.Decimal, datetime.date, datetime.time, datetime.datetime, datetime.timezone.utc, types.GeneratorType, types.MethodType,
        ),
        lambda e: "".join(traceback.format_exception(type(e), e, e.__traceback__)),
    )
    return Codec


class Codec:
    """One function in the codec. `states` are (name, type, access)."""

    raw = raw

    def __init__(self, kind, call, arguments, result, key=(), states=(), calls=None, null_skips=None, name="f"):
        raw.reset()
        self.kind, self.result = kind, result
        self.binding = {
            "arguments": [{"name": f"c{i}", "type": t} for i, t in enumerate(arguments)],
            "key": [{"name": f"k{i}", "type": t} for i, t in enumerate(key)],
            "states": [{"name": n, "type": t, "access": a} for n, t, a in states],
        }
        index = raw.begin(name)
        self.states = [raw.state(index, n, parse(t).compiled(), a == "call") for n, t, a in states]
        compiled = lambda texts: tuple(parse(t).compiled() for t in texts)
        key_row = DataType("struct", fields=[(f"k{i}", parse(t)) for i, t in enumerate(key)]).compiled() if len(key) > 1 else None
        raw.finish(
            index, binding._MODES[kind], compiled(arguments), tuple(null_skips or [False] * len(arguments)), compiled(key), key_row,
            parse(result).compiled(), calls or (call, None, None, None, None), "context" if kind == "process" else None,
            drive.drive_of(kind, call, len(arguments)),
        )

    def run_bytes(self, meaning):
        """A bundle's meaning in, the effects' bytes out."""
        return raw.run_frame(frames.encode_bundle(self.kind, self.binding, meaning))

    def run(self, **meaning):
        """With defaults for what is not given; the effects' meaning."""
        rows_in = len(meaning["arguments"][0]) if meaning.get("arguments") and "rows" not in meaning else 0
        columns = [s for s in self.binding["states"] if s["access"] == "column"]
        keys = meaning.get("keys", 0)
        m = {
            "function": 0, "operation": 0, "rows": rows_in, "keys": keys, "watermark": frames.NO_TIME, "processing_time": 0, "seed": 0,
            "arguments": [], "event_times": None, "row_kinds": None, "key_index": None, "key_columns": [],
            "states": [[None] * keys for _ in columns], "sources": [None for _ in columns],
        }
        m.update(meaning)
        return self.read(self.run_bytes(m), m["keys"])

    def resume(self, keys=0):
        """The next effects."""
        return self.read(raw.resume_frame(), keys)

    def read(self, data, keys):
        """The meaning of effects."""
        return frames.decode_effects(self.result, self.binding["states"], keys, data)
