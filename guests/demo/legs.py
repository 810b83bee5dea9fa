"""What a departure's delay means, and whether its aircraft brought it along."""

import datetime
from typing import Iterator, NamedTuple, Optional

from wasmill import KeyedProcessFunction, Row, Types, ValueStateDescriptor

LATE_MINUTES = 15


class Leg(NamedTuple):
    """What goes on to the daily summary."""

    carrier: str
    flight: int
    sched_dep: datetime.datetime
    dep_delay: Optional[int]
    grade: str
    km: Optional[float]
    inherited: bool


def grade(dep_delay: Optional[int], arr_delay: Optional[int]) -> str:
    """How bad it was: by the arrival or, if there was none, by the departure."""
    if dep_delay is None:
        return "cancelled"
    delay = dep_delay if arr_delay is None else arr_delay
    if delay < 0:
        return "early"
    if delay <= LATE_MINUTES:
        return "on-time"
    return "late" if delay <= 60 else "very-late"


class Inherited(KeyedProcessFunction):
    """A departure inherits its delay if it is late and its aircraft's last flight came in late.

    Keyed by `tailnum`. The last flight is the last departure that took place; flights without a `tailnum` inherit nothing.
    """

    def open(self, runtime_context):
        self.arrival = runtime_context.get_state(ValueStateDescriptor("arrival_delay", Types.INT()))

    def process_element(self, value: Row, ctx) -> Iterator[Leg]:
        delay, before = value.dep_delay, self.arrival.value()
        late = delay is not None and delay > LATE_MINUTES
        inherited = late and value.tailnum is not None and before is not None and before > LATE_MINUTES
        if delay is not None:
            self.arrival.update(value.arr_delay)  # None, if it was diverted, is no late arrival
        yield Leg(value.carrier, value.flight, value.sched_dep, delay, value.grade, value.km, inherited)
