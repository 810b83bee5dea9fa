"""The classes that users derive from. Names and signatures are PyFlink's."""

import abc


class Function:
    """What all function classes have."""

    def open(self, runtime_context):
        """Called once in an instance, before the first row."""

    def close(self):
        """Kept for compatibility. An instance may be dropped at any time without a call: keep nothing in it that must be saved."""


class MapFunction(Function, abc.ABC):
    """One row in, one row out."""

    @abc.abstractmethod
    def map(self, value):
        """The row that comes out."""


class FlatMapFunction(Function, abc.ABC):
    """One row in, any number out."""

    @abc.abstractmethod
    def flat_map(self, value):
        """Yields the rows that come out."""


class FilterFunction(Function, abc.ABC):
    """Keeps some rows."""

    @abc.abstractmethod
    def filter(self, value):
        """True if the row is kept."""


class ReduceFunction(Function, abc.ABC):
    """Folds the rows of a key into one of the same type."""

    @abc.abstractmethod
    def reduce(self, value1, value2):
        """What becomes of the last result and a new row."""


class UserDefinedFunction(Function):
    """What the functions of the Table API have."""

    def is_deterministic(self):
        """The same arguments give the same result."""
        return True


class ScalarFunction(UserDefinedFunction):
    """Values in, a value out: define `eval(self, …)`."""


class TableFunction(UserDefinedFunction):
    """Values in, any number of rows out: define `eval(self, …)`, which yields them."""


class AggregateFunction(UserDefinedFunction):
    """Folds the rows of a key, or of a key and window, into an accumulator.

    As in PyFlink's Table API: `create_accumulator()`, `accumulate(accumulator, …)`, `retract(accumulator, …)`,
    `merge(accumulator, accumulators)`, `get_value(accumulator)`; or as in its DataStream API: `add(value, accumulator)`,
    `get_result(accumulator)`, `merge(a, b)`. A method that returns an accumulator replaces the old one with it.
    """

    def get_result_type(self):
        """The type of the result, unless it is declared otherwise."""
        return None

    def get_accumulator_type(self):
        """The type of the accumulator, unless it is declared otherwise."""
        return None


class StateDescriptor:
    """A state's name and type."""

    def __init__(self, name, type_info):
        from .types import resolve

        self.name = name
        self.type_info = resolve(type_info)

    def get_name(self):
        """The name of the state."""
        return self.name

    def enable_time_to_live(self, ttl_config):
        """Not supported yet."""
        raise NotImplementedError(f"state {self.name!r}: time to live comes with a later version of Wasmill")


class ValueStateDescriptor(StateDescriptor):
    """A state that holds one value for a key."""


class TimerService:
    """What time it is for the stream. Timers come with a later version."""

    def __init__(self, clock):
        self._clock = clock

    def current_watermark(self):
        """Milliseconds; the smallest i64 before the first watermark."""
        return self._clock.watermark()

    def current_processing_time(self):
        """Milliseconds. It stands still during a bundle, so that a replay computes the same."""
        return self._clock.processing_time()

    def _later(self, *_):
        raise NotImplementedError("timers come with a later version of Wasmill")

    register_event_time_timer = register_processing_time_timer = _later
    delete_event_time_timer = delete_processing_time_timer = _later


class Context:
    """What `process_element` gets beside the row."""

    def __init__(self, clock):
        self._timers = TimerService(clock)
        self.timestamp = clock.timestamp
        self.get_current_key = clock.current_key

    def timestamp(self):
        """The event time of the row in milliseconds, or None."""

    def get_current_key(self):
        """The key of the row: a value, or a Row if the key has several columns."""

    def timer_service(self):
        """Times and, in a later version, timers."""
        return self._timers


class ProcessFunction(Function):
    """One row in, any number out, with a view of time."""

    Context = Context

    def process_element(self, value, ctx):
        """Yields the rows that come out."""
        raise NotImplementedError


class KeyedProcessFunction(Function):
    """One row in, any number out, with state per key."""

    Context = OnTimerContext = Context

    def process_element(self, value, ctx):
        """Yields the rows that come out."""
        raise NotImplementedError

    def on_timer(self, timestamp, ctx):
        """Never called yet: timers come with a later version, and registering one raises."""


class RuntimeContext:
    """What `open` gets: where the function runs, its settings, resources and states."""

    def __init__(self, name, job="", operator="", subtask=0, parallelism=1, parameters=None, resources=None, make_state=None):
        self._name, self._job, self._operator = name, job, operator
        self._subtask, self._parallelism = subtask, parallelism
        self._parameters, self._resources = dict(parameters or {}), dict(resources or {})
        self._make_state = make_state

    def get_state(self, state_descriptor):
        """The ValueState of a descriptor: `value()`, `update(value)`, `clear()`."""
        if not isinstance(state_descriptor, ValueStateDescriptor):
            raise TypeError(f"{self._name}: get_state wants a ValueStateDescriptor, got {type(state_descriptor).__name__}")
        if self._make_state is None:
            raise RuntimeError(f"{self._name}: state wants a keyed stream: give the operator a `key`")
        return self._make_state(state_descriptor.name, state_descriptor.type_info)

    def _later(self, *_):
        raise NotImplementedError(f"{self._name}: list, map, reducing and aggregating state come with a later version of Wasmill")

    get_list_state = get_map_state = get_reducing_state = get_aggregating_state = _later

    def get_job_parameter(self, key, default_value=None):
        """A setting that the job gives this use of the function (a str), or the default."""
        return self._parameters.get(key, default_value)

    def get_resource(self, name):
        """The bytes of a file that the job grants."""
        if name not in self._resources:
            have = ", ".join(sorted(self._resources)) or "none"
            raise KeyError(f"{self._name}: the job grants no resource {name!r} (it grants: {have}): add it to the UDF's `resources`")
        return self._resources[name]

    def get_job_name(self):
        """The name of the job."""
        return self._job

    def get_task_name(self):
        """The name of the operator."""
        return self._operator

    def get_index_of_this_subtask(self):
        """Which of the parallel instances this is, from 0."""
        return self._subtask

    def get_number_of_parallel_subtasks(self):
        """How many instances there are."""
        return self._parallelism

    def get_max_number_of_parallel_subtasks(self):
        """How many instances there are."""
        return self._parallelism

    def get_attempt_number(self):
        """Always 0: a replay is no other attempt."""
        return 0

    def get_task_name_with_subtasks(self):
        """`operator (1/2)`."""
        return f"{self._operator} ({self._subtask + 1}/{self._parallelism})"
