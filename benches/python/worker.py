"""Serves a function over a Unix socket: the way that Wasmill replaces.

    worker.py FUNCTION SOCKET

Says `ready` on standard output when it listens. A connection is a new instance of the function. An Arrow IPC stream comes in, one
goes out, a batch for each batch, and one more of what a function holds back to the end. Answers are sent when there is nothing left to read, so that many small batches in flight share
system calls.
"""

import os
import socket
import sys

import pyarrow as pa

import calls

RECEIVE_BYTES = 1 << 18
PENDING_BYTES_MAX = 1 << 18


class Outgoing:
    """Gathers what the stream writer writes."""

    closed = False

    def __init__(self, connection):
        self._connection, self._parts, self._bytes = connection, [], 0

    def write(self, data):
        self._parts.append(bytes(data))
        self._bytes += len(data)
        if self._bytes > PENDING_BYTES_MAX:
            self.send()

    def send(self):
        if self._parts:
            parts, self._parts, self._bytes = self._parts, [], 0
            self._connection.sendall(b"".join(parts))

    def flush(self):
        """The stream writer asks for it after every batch; `send` does it when it is worth it."""


class Incoming:
    """Gives the stream reader what it asks for, and sends the answers before it waits."""

    closed = False

    def __init__(self, connection, outgoing):
        self._connection, self._outgoing, self._data, self._at = connection, outgoing, b"", 0

    def read(self, size):
        while len(self._data) - self._at < size:
            self._outgoing.send()
            more = self._connection.recv(RECEIVE_BYTES)
            if not more:
                break
            self._data, self._at = self._data[self._at:] + more, 0
        start = self._at
        self._at = min(start + size, len(self._data))
        return self._data[start:self._at]


def serve(connection, run):
    """One stream, to its end."""
    outgoing = Outgoing(connection)
    reader = pa.ipc.open_stream(pa.PythonFile(Incoming(connection, outgoing), mode="r"))
    sink, writer = pa.PythonFile(outgoing, mode="w"), None
    for batch in reader:
        answer = run(batch)
        if writer is None:
            writer = pa.ipc.new_stream(sink, answer.schema)
        writer.write_batch(answer)
    end = getattr(run, "end", None)
    if writer is not None and end is not None:
        writer.write_batch(end())
    if writer is not None:
        writer.close()
    outgoing.send()


def main(function, path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    os.write(1, b"ready\n")
    while True:
        connection, _ = listener.accept()
        with connection:
            serve(connection, calls.call(function))


if __name__ == "__main__":
    main(*sys.argv[1:])
