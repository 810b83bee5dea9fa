"""Names of PyFlink that are not here: importing one says why."""

_STATES = {
    "ListStateDescriptor": "list state", "MapStateDescriptor": "map state", "ReducingStateDescriptor": "reducing state",
    "AggregatingStateDescriptor": "aggregating state", "StateTtlConfig": "time to live of state", "ListState": "list state",
    "MapState": "map state", "ReducingState": "reducing state", "AggregatingState": "aggregating state",
}
_OF_THE_JOB = frozenset("""
    WatermarkStrategy TimestampAssigner WatermarkGenerator AssignerWithPeriodicWatermarks StreamExecutionEnvironment ExecutionEnvironment
    StreamTableEnvironment TableEnvironment EnvironmentSettings TableConfig Configuration ExecutionConfig RuntimeExecutionMode ExecutionMode
    CheckpointingMode CheckpointConfig ExternalizedCheckpointCleanup RestartStrategies RestartStrategy TimeCharacteristic StateBackend
    HashMapStateBackend EmbeddedRocksDBStateBackend CheckpointStorage DataStream KeyedStream WindowedStream ConnectedStreams DataStreamSink
    DataStreamSource Table Schema TableSchema TableDescriptor FormatDescriptor StatementSet SqlDialect Source Sink SourceFunction SinkFunction
    SerializationSchema DeserializationSchema SimpleStringSchema JsonRowSerializationSchema JsonRowDeserializationSchema Encoder Duration Time
    KeySelector Partitioner Window TimeWindow CountWindow WindowAssigner Trigger SlotSharingGroup JobClient JobStatus
    Tumble Slide Session Over
    TumblingEventTimeWindows TumblingProcessingTimeWindows SlidingEventTimeWindows SlidingProcessingTimeWindows EventTimeSessionWindows
    ProcessingTimeSessionWindows
""".split())
_FUNCTIONS = frozenset("""
    CoMapFunction CoFlatMapFunction CoProcessFunction KeyedCoProcessFunction BroadcastProcessFunction KeyedBroadcastProcessFunction
    ProcessWindowFunction ProcessAllWindowFunction WindowFunction AllWindowFunction AsyncFunction OutputTag TableAggregateFunction
""".split())


def missing_of(module):
    """The `__getattr__` of a module. An AttributeError would become "cannot import name" without a reason."""

    def __getattr__(name):
        if name in _STATES:
            why = (
                f"{_STATES[name]} comes with a later version of Wasmill; value state is there: ValueStateDescriptor, which can hold a list, map "
                "or struct too"
            )
        elif name in _OF_THE_JOB:
            why = "Wasmill has it not in Python: sources, sinks, watermarks, windows and settings are said in the job file; take the import out"
        elif name in _FUNCTIONS:
            why = "Wasmill has no such function yet: its README lists the classes that there are"
        else:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise ImportError(f"{module}.{name}: {why}", name=module)

    return __getattr__
