"""What pyarrow takes to make Python's objects of a column and a column of Python's objects: the floor of benches/src/values.rs.

    values.py ROWS.arrow SECONDS

ROWS.arrow is an Arrow IPC stream of one batch. Prints a line `IN OUT` for each of its columns: nanoseconds a value, medians of runs
that take SECONDS together.
"""

import statistics
import sys
import time

import pyarrow as pa


def nanoseconds(run, rows, seconds):
    """The median of a run, a row."""
    run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / rows


def main(path, seconds):
    with pa.OSFile(path) as file:
        batch = pa.ipc.open_stream(file).read_next_batch()
    for column in batch.columns:
        values, data_type = column.to_pylist(), column.type
        times = [
            nanoseconds(column.to_pylist, batch.num_rows, float(seconds)),
            nanoseconds(lambda: pa.array(values, data_type), batch.num_rows, float(seconds)),
        ]
        print(*times, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
