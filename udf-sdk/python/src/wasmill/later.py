"""Names of PyFlink that come with a later version: importing one says so."""

_STATES = {
    "ListStateDescriptor": "list state", "MapStateDescriptor": "map state", "ReducingStateDescriptor": "reducing state",
    "AggregatingStateDescriptor": "aggregating state", "StateTtlConfig": "time to live of state", "ListState": "list state",
    "MapState": "map state", "ReducingState": "reducing state", "AggregatingState": "aggregating state",
}


def missing_of(module):
    """The `__getattr__` of a module. An AttributeError would become "cannot import name" without a reason."""

    def __getattr__(name):
        if name in _STATES:
            raise ImportError(
                f"{module}.{name}: {_STATES[name]} comes with a later version of Wasmill; value state is there: "
                "ValueStateDescriptor, which can hold a list, map or struct too",
                name=module,
            )
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return __getattr__
