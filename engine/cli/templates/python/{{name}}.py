"""The UDFs of {{name}}."""

from typing import Iterator, NamedTuple, Optional

from wasmill import KeyedProcessFunction, Types, ValueStateDescriptor


def celsius(fahrenheit: float) -> float:
    """A temperature in °C. What raises is an error of that row, with this line in its traceback."""
    if fahrenheit < -459.67:
        raise ValueError(f"{fahrenheit} °F is below absolute zero")
    return (fahrenheit - 32) * 5 / 9


class Warmer(NamedTuple):
    """A measurement that was warmer than all before it."""

    celsius: float
    before: Optional[float]


class Warmest(KeyedProcessFunction):
    """For each key, the measurements that were warmer than all before them."""

    def open(self, runtime_context):
        self.so_far = runtime_context.get_state(ValueStateDescriptor("so_far", Types.DOUBLE()))

    def process_element(self, value, ctx) -> Iterator[Warmer]:
        before = self.so_far.value()
        if before is None or value.celsius > before:
            self.so_far.update(value.celsius)
            yield Warmer(value.celsius, before)
