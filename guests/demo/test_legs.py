"""The demo's Python UDFs, natively: `wasmill udf test guests/demo/legs.py` or pytest."""

import datetime
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "udf-sdk" / "python" / "src")]

import legs  # noqa: E402
from wasmill.testing import Harness  # noqa: E402


def flight(tailnum, dep_delay, arr_delay):
    """A row of the demo's stream."""
    return {
        "carrier": "UA", "flight": 1, "sched_dep": datetime.datetime(2013, 1, 1, 10, 15), "dep_delay": dep_delay, "arr_delay": arr_delay,
        "tailnum": tailnum, "grade": legs.grade(dep_delay, arr_delay), "km": 1.5,
    }


def inherited(*flights):
    """What each flight inherited."""
    return [row.inherited for row in Harness(legs.Inherited, key="tailnum").feed(*flights)]


def test_grades():
    rows = [(None, None), (5, None), (20, -1), (0, 15), (0, 16), (99, 60), (0, 61)]
    assert Harness(legs.grade).feed(*rows) == ["cancelled", "on-time", "early", "on-time", "late", "late", "very-late"]


def test_a_late_aircraft_makes_the_next_flight_late():
    assert inherited(flight("N1", 20, 16), flight("N1", 16, 0)) == [False, True]
    assert inherited(flight("N1", 20, 15), flight("N1", 16, 0)) == [False, False]
    assert inherited(flight("N1", 20, 16), flight("N1", 15, 0)) == [False, False]


def test_aircraft_are_apart():
    assert inherited(flight("N1", 20, 99), flight("N2", 99, 99), flight("N1", 99, 99)) == [False, False, True]


def test_a_cancelled_flight_is_passed_over():
    assert inherited(flight("N1", 20, 99), flight("N1", None, None), flight("N1", 99, 0)) == [False, False, True]


def test_a_diverted_flight_is_the_last_one_but_did_not_come_in_late():
    assert inherited(flight("N1", 20, 99), flight("N1", 99, None), flight("N1", 99, 0)) == [False, True, False]


def test_flights_without_an_aircraft_inherit_nothing():
    assert inherited(flight(None, 99, 99), flight(None, 99, 99)) == [False, False]
