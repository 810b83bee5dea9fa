"""Calls a function in this very process: the floor, no boundary at all. The time is taken here.

    in_process.py FUNCTION ROWS.arrow

For each line `ROWS BUNDLE` on standard input, runs a new instance of the function over as many rows, cut into batches of BUNDLE
rows, and answers with the nanoseconds that it took. ROWS.arrow is an Arrow IPC stream; its rows are used over and over.
"""

import itertools
import sys
import time

import pyarrow as pa

import calls


def cut(table, bundle):
    """The rows in batches of `bundle` rows, for ever."""
    whole = table.combine_chunks().to_batches()[0]
    bundle = min(bundle, whole.num_rows)
    parts = [whole.slice(at, bundle) for at in range(0, whole.num_rows - bundle + 1, bundle)]
    return itertools.cycle(parts)


def measure(run, batches, rows):
    """Nanoseconds for at least `rows` rows, scaled to exactly as many."""
    done, start = 0, time.perf_counter_ns()
    for batch in batches:
        run(batch)
        done += batch.num_rows
        if done >= rows:
            break
    return (time.perf_counter_ns() - start) * rows // done


def main(function, path):
    with pa.OSFile(path) as file:
        table = pa.ipc.open_stream(file).read_all()
    for line in sys.stdin:
        rows, bundle = map(int, line.split())
        print(measure(calls.call(function), cut(table, bundle), rows), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
