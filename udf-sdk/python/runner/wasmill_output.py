"""`logging` and `print` reach the log of the job."""

import logging
import sys

import _wasmill_codec as codec
from wit_world.imports import host

_LEVELS = ((logging.ERROR, host.Level.ERROR), (logging.WARNING, host.Level.WARN), (logging.INFO, host.Level.INFO), (logging.DEBUG, host.Level.DEBUG))
LINE_CHARS_MAX = 16384


def _level(number):
    for least, level in _LEVELS:
        if number >= least:
            return level
    return host.Level.TRACE


class HostHandler(logging.Handler):
    """Hands records to the host, with the name of their logger."""

    def emit(self, record):
        """Formats and sends; what cannot be formatted is said so (`logging` would write it to stderr)."""
        try:
            text = self.format(record)
        except Exception as error:
            text = f"{record.name}: a log line could not be formatted: {type(error).__name__}: {error}"
        host.log(_level(record.levelno), _sendable(text))


class HostStream:
    """A text stream whose lines go to the host. A line without an end goes when the bundle ends."""

    encoding, errors, closed = "utf-8", "backslashreplace", False

    def __init__(self, level):
        self.level, self.held = level, ""

    def write(self, text):
        """Takes text; sends what is complete."""
        if not isinstance(text, str):
            raise TypeError(f"write() wants a str, got {type(text).__name__}")
        *lines, rest = (self.held + text).split("\n")
        for line in lines:
            host.log(self.level, _sendable(line))
        self.held = rest
        if rest:
            codec.at_end(flush)
        return len(text)

    def writelines(self, lines):
        """Takes several texts."""
        for line in lines:
            self.write(line)

    def flush(self):
        """Sends what is held."""
        if self.held:
            host.log(self.level, _sendable(self.held))
            self.held = ""

    def isatty(self):
        """It is no terminal."""
        return False

    def readable(self):
        """It is written only."""
        return False

    def writable(self):
        """It is written."""
        return True

    seekable = readable


def _sendable(text):
    text = text if len(text) <= LINE_CHARS_MAX else text[:LINE_CHARS_MAX] + f" … ({len(text)} characters)"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def warn(text):
    """A line of the runner's own."""
    host.log(host.Level.WARN, _sendable(text))


def flush():
    """Sends what is held, of both streams."""
    sys.stdout.flush()
    sys.stderr.flush()


def install():
    """Takes over stdout, stderr and the root logger."""
    sys.stdout = sys.__stdout__ = HostStream(host.Level.INFO)
    sys.stderr = sys.__stderr__ = HostStream(host.Level.WARN)
    handler = HostHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
