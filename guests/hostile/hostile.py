"""Attacks on the engine, each a function, for the tests of what SECURITY.md promises (`tests/tests/hostile.rs`). None of them works."""

import atexit
import logging
import os
import random
import secrets
import sys
import time
import uuid
from typing import Iterator

from wasmill import KeyedProcessFunction, ScalarFunction, Types, ValueStateDescriptor, udf

MEBIBYTE = 1 << 20
log = logging.getLogger("hostile")


# ---- looks for something that is not the guest's

def _connect(on):
    import socket

    host, port = on.rsplit(":", 1)
    socket.create_connection((host, int(port)), timeout=1)
    return "connected"


def _resolve(on):
    import socket

    return f"{len(socket.getaddrinfo(on, 80))} addresses"


def _listen(on):
    import socket

    server = socket.socket()
    server.bind((on.rsplit(":", 1)[0], 0))
    server.listen()
    return "listening"


def _thread(_):
    import threading

    threading.Thread(target=print).start()
    return "a thread"


def _process(on):
    import subprocess

    return f"a process: {subprocess.run([on], capture_output=True)}"


def _native(on):
    import ctypes

    return f"a library: {ctypes.CDLL(on)}"


def _read(on):
    with open(on, "rb") as file:
        return file.read().decode("utf-8", "replace")


def _write(on, mode="w"):
    with open(on, mode) as file:
        file.write("was here")
    return "written"


_ATTEMPTS = {
    "read": _read,
    "write": _write,
    "append": lambda on: _write(on, "a"),
    "remove": lambda on: f"removed: {os.remove(on)}",
    "make": lambda on: f"made: {os.makedirs(on)}",
    "link": lambda on: f"linked: {os.symlink(on, 'link-of-ours')}",
    "list": lambda on: f"{len(os.listdir(on))} entries",
    "variables": lambda _: repr(sorted(os.environ)),
    "arguments": lambda _: repr(sys.argv[1:]),
    "folder": lambda _: os.getcwd(),
    "stdin": lambda _: repr(sys.stdin.read() if sys.stdin else ""),
    "thread": _thread,
    "process": _process,
    "native": _native,
    "fork": lambda _: f"forked: {os.fork()}",
    "shell": lambda on: f"a shell: {os.system(on)}",
    "listen": _listen,
    "connect": _connect,
    "resolve": _resolve,
    "exit": lambda on: os._exit(int(on)),
    "abort": lambda _: os.abort(),
}


def attempts(what: str) -> str:
    """Tries `WHAT:WHERE`; what came of it. An error says that it could not."""
    verb, _, on = what.partition(":")
    try:
        return _ATTEMPTS[verb](on)
    except Exception as error:
        return f"error: {type(error).__name__}: {error}"


def clocks(what: str) -> str:
    """How long work took, by all clocks: a clock that moves would let a guest time what others do."""
    begun = time.perf_counter_ns(), time.time_ns(), time.monotonic_ns()
    sum(range(1_000_000))
    ended = time.perf_counter_ns(), time.time_ns(), time.monotonic_ns()
    return ", ".join(f"{b - a} ns" for a, b in zip(begun, ended))


@udf(deterministic=False, name="random", result_type="utf8")
def draws(what):
    """Something random, from every source that there is."""
    return f"{random.random()} {os.urandom(8).hex()} {secrets.token_hex(8)} {uuid.uuid4()} {random.SystemRandom().random()}"


# ---- does not come back

def loops(x: int) -> int:
    """Never ends."""
    while True:
        pass


def holds_on(x: int) -> int:
    """Never ends, whatever is raised in it."""
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def naps(x: int) -> int:
    """Sleeps, and sleeps again."""
    while True:
        time.sleep(3600)


class LoopsInOpen(ScalarFunction):
    """Never opens."""

    def open(self, function_context):
        while True:
            pass

    def eval(self, x: int) -> int:
        return x


class _Sticky:
    def __del__(self):
        while True:
            pass


def loops_in_drop(x: int) -> int:
    """Drops what cannot be dropped."""
    _Sticky()
    return x


_held = []


def _stay():
    while True:
        pass


def loops_when_dropped(x: int) -> int:
    """Is a good function, until its instance ends."""
    if not _held:
        _held.append(_Sticky())
        atexit.register(_stay)
    return x + 1


def recurses(x: int) -> int:
    """Recurses without end, and without Python's own limit."""
    sys.setrecursionlimit(2**31 - 1)

    def down(depth):
        return 1 + down(depth + 1)

    return down(x)


def recurses_in_c(x: int) -> int:
    """Recurses without end through C."""
    sys.setrecursionlimit(2**31 - 1)

    class Deep:
        def __repr__(self):
            return repr([Deep()])

    return len(repr(Deep()))


# ---- takes or gives more than there is room for

def hoards_in_steps(x: int) -> int:
    """Takes memory by the mebibyte."""
    held = []
    while True:
        held.append(bytearray(MEBIBYTE))


def hoards_at_once(x: int) -> int:
    """Takes 2 GiB at once."""
    return len(bytearray(2047 * MEBIBYTE))


def hoards_on(x: int) -> int:
    """Takes memory, and goes on when there is none."""
    held = []
    while True:
        try:
            held.append(bytearray(MEBIBYTE))
        except MemoryError:
            pass


def powers(x: int) -> int:
    """Makes a number that no memory holds."""
    return (10 ** (10 ** 10)) % 7


@udf(result_type="int64")
def yields(x: int) -> Iterator[int]:
    """Gives the same number without end."""
    while True:
        yield x


@udf(result_type="utf8")
def yields_text(x: int) -> Iterator[str]:
    """Gives texts of a mebibyte without end."""
    while True:
        yield "y" * MEBIBYTE


def logs(lines: int) -> int:
    """Logs so many lines."""
    for line in range(lines):
        log.error("line %d", line)
    return lines


def logs_long(mebibytes: int) -> int:
    """Logs a line of so many MiB, ten times."""
    for _ in range(10):
        log.error("l" * (mebibytes * MEBIBYTE))
    return mebibytes


def prints(lines: int) -> int:
    """Prints so many lines."""
    for line in range(lines):
        print("line", line)
    return lines


def prints_unended(mebibytes: int) -> int:
    """Prints so many MiB without an end of a line."""
    for _ in range(mebibytes):
        print("p" * MEBIBYTE, end="", file=sys.stderr)
    return mebibytes


def fails_long(mebibytes: int) -> int:
    """Fails with a message of so many MiB."""
    raise ValueError("e" * (mebibytes * MEBIBYTE))


def fails_with_a_long_name(mebibytes: int) -> int:
    """Fails with an error whose name has so many MiB."""
    raise type("E" * (mebibytes * MEBIBYTE), (Exception,), {})("no")


def fails_to_say(x: int) -> int:
    """Fails with an error that has no text, but another error."""

    class Mute(Exception):
        def __str__(self):
            raise self

        __repr__ = __str__

    raise Mute


def fails_slowly(x: int) -> int:
    """Fails with an error whose text never ends."""

    class Slow(Exception):
        def __str__(self):
            while True:
                pass

    raise Slow


class _Floods(KeyedProcessFunction):
    result_type = "int64"

    def open(self, runtime_context):
        self.held = runtime_context.get_state(ValueStateDescriptor("held", Types.STRING()))

    def process_element(self, value, ctx):
        self.held.update("s" * MEBIBYTE)
        yield value.x


class Floods(_Floods):
    """Keeps a mebibyte for each key."""


# ---- past the SDK

def calls_host(x: int) -> int:
    """Calls the host without end."""
    from wit_world.imports import host

    while True:
        host.log(host.Level.TRACE, "")


def breaks_in(x: int) -> int:
    """Turns the codec against itself: whatever comes of it stays in this instance."""
    import _wasmill_codec as codec

    for name in dir(codec):
        call = getattr(codec, name)
        for arguments in ((), (x,), (-1,), (2**31,), ("", b""), (0, "held", ("int64",), True), (0, 0, (), (), (), None, None, (None,) * 5, None, None)):
            try:
                call(*arguments)
            except BaseException:
                pass
    return x + 1
