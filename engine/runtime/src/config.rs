//! The configuration of a job: every key, its default, and what it does. Names are PyFlink's where the thing is the same.

use std::path::PathBuf;
use std::time::Duration;

use crate::checkpoint::restart::RestartStrategy;
use crate::checkpoint::snapshot::Alignment;
use crate::value::{OptionError, Options};

/// When the guest is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionMode {
    /// Once a bundle.
    Bundle,
    /// Once a row: lowest latency, and what PyFlink's thread mode does.
    Thread,
}

/// What becomes of an open bundle at a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierBundle {
    /// It is handed to the UDF first.
    Flush,
    /// Its rows become part of the checkpoint as they are.
    Persist,
}

/// Checkpoints, as a job file says it.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointConfig {
    /// `None`: only when asked for.
    pub interval: Option<Duration>,
    pub min_pause: Duration,
    pub timeout: Duration,
    pub tolerable_failures: u64,
    pub concurrent_max: usize,
    pub retained: usize,
    pub unaligned: bool,
    /// How long an aligned barrier waits before it becomes unaligned; `None`: for ever.
    pub aligned_timeout: Option<Duration>,
    /// A path or URL. Without it the job takes no checkpoints.
    pub dir: Option<String>,
    pub savepoint_dir: Option<String>,
}

impl Default for CheckpointConfig {
    fn default() -> CheckpointConfig {
        CheckpointConfig {
            interval: None,
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(600),
            tolerable_failures: 0,
            concurrent_max: 1,
            retained: 1,
            unaligned: false,
            aligned_timeout: None,
            dir: None,
            savepoint_dir: None,
        }
    }
}

impl CheckpointConfig {
    pub(crate) fn alignment(&self) -> Alignment {
        match (self.unaligned, self.aligned_timeout) {
            (false, _) => Alignment::Aligned,
            (true, Some(timeout)) if !timeout.is_zero() => {
                Alignment::Timeout(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
            }
            (true, _) => Alignment::Unaligned,
        }
    }
}

/// Where the states of keys are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateBackend {
    Memory,
    /// In memory those that were used last, the others on disk.
    Disk {
        /// For one subtask of a node with keys, about.
        memory_bytes: u64,
        /// `None`: where the system has its temporary files.
        dir: Option<PathBuf>,
    },
}

/// Where calls that end the job are recorded, for `wasmill replay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailuresConfig {
    /// A path. `None`: where whoever runs the job keeps them.
    pub dir: Option<String>,
    /// Of each job; 0: nothing is recorded.
    pub records_max: usize,
}

impl Default for FailuresConfig {
    fn default() -> FailuresConfig {
        FailuresConfig { dir: None, records_max: 10 }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub parallelism: usize,
    /// Number of key groups; `None` = Flink's default for the parallelism.
    pub max_parallelism: Option<usize>,
    pub bundle_rows_max: usize,
    pub bundle_time: Duration,
    pub batch_rows_max: usize,
    pub execution_mode: ExecutionMode,
    pub watermark_interval: Duration,
    /// Elements that wait in a channel between two tasks.
    pub exchange_elements_max: usize,
    pub seed: u64,
    pub checkpoint: CheckpointConfig,
    pub checkpoint_bundle: BarrierBundle,
    pub state_backend: StateBackend,
    /// `None`: exponential delay with checkpoints, none without, as in Flink.
    pub restart: Option<RestartStrategy>,
    pub failures: FailuresConfig,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            parallelism: 1,
            max_parallelism: None,
            bundle_rows_max: 1000,
            bundle_time: Duration::from_secs(1),
            batch_rows_max: 10_000,
            execution_mode: ExecutionMode::Bundle,
            watermark_interval: Duration::from_millis(200),
            exchange_elements_max: 16,
            seed: 0,
            checkpoint: CheckpointConfig::default(),
            checkpoint_bundle: BarrierBundle::Flush,
            state_backend: StateBackend::Memory,
            restart: None,
            failures: FailuresConfig::default(),
        }
    }
}

/// A key for help texts and the JSON Schema.
pub struct ConfigKey {
    pub name: &'static str,
    pub kind: &'static str,
    pub default: &'static str,
    pub help: &'static str,
}

pub const KEYS: &[ConfigKey] = &[
    ConfigKey {
        name: "parallelism",
        kind: "integer",
        default: "1",
        help: "How many subtasks each node has, unless the node says otherwise. 1 to 1024.",
    },
    ConfigKey {
        name: "pipeline.max-parallelism",
        kind: "integer",
        default: "Flink's: at least 128",
        help: "Number of key groups: the most subtasks that a keyed node can ever have. 1 to 32768.",
    },
    ConfigKey {
        name: "bundle.size",
        kind: "integer",
        default: "1000",
        help: "A bundle is handed to the UDF when it has this many rows, or arrow.batch.size if that is less. 1 to 1000000.",
    },
    ConfigKey {
        name: "bundle.time",
        kind: "duration",
        default: "1s",
        help: "A bundle is handed to the UDF at the latest after this time; an empty input queue hands it over at once.",
    },
    ConfigKey {
        name: "arrow.batch.size",
        kind: "integer",
        default: "10000",
        help: "Rows that a source reads, and a call carries, at most. 1 to 1000000.",
    },
    ConfigKey {
        name: "execution-mode",
        kind: "text",
        default: "bundle",
        help: "bundle: a call per bundle. thread: a call per row.",
    },
    ConfigKey {
        name: "pipeline.auto-watermark-interval",
        kind: "duration",
        default: "200ms",
        help: "How often sources emit watermarks. 0ms: after every batch.",
    },
    ConfigKey {
        name: "exchange.elements.max",
        kind: "integer",
        default: "16",
        help: "Batches that wait between two tasks before the sender waits. 1 to 4096.",
    },
    ConfigKey { name: "seed", kind: "integer", default: "0", help: "Where the randomness of UDFs begins." },
    ConfigKey {
        name: "execution.checkpointing.dir",
        kind: "text",
        default: "none: no checkpoints",
        help: "Where checkpoints are kept: a directory of this job alone, or an s3://, gs:// or az:// URL.",
    },
    ConfigKey {
        name: "execution.checkpointing.interval",
        kind: "duration",
        default: "10s with a dir",
        help: "How often a checkpoint is taken. 0ms: only when asked for.",
    },
    ConfigKey {
        name: "execution.checkpointing.min-pause",
        kind: "duration",
        default: "0ms",
        help: "Least time between the end of one checkpoint and the beginning of the next.",
    },
    ConfigKey {
        name: "execution.checkpointing.timeout",
        kind: "duration",
        default: "10min",
        help: "A checkpoint that takes longer is given up.",
    },
    ConfigKey {
        name: "execution.checkpointing.tolerable-failed-checkpoints",
        kind: "integer",
        default: "0",
        help: "So many checkpoints may fail one after the other before the job does.",
    },
    ConfigKey {
        name: "execution.checkpointing.max-concurrent-checkpoints",
        kind: "integer",
        default: "1",
        help: "Checkpoints on their way at the same time; 1 with unaligned ones. 1 to 64.",
    },
    ConfigKey {
        name: "execution.checkpointing.num-retained",
        kind: "integer",
        default: "1",
        help: "Complete checkpoints that are kept. 1 to 1000.",
    },
    ConfigKey {
        name: "execution.checkpointing.unaligned.enabled",
        kind: "bool",
        default: "false",
        help: "Barriers overtake rows that wait between tasks; those become part of the checkpoint.",
    },
    ConfigKey {
        name: "execution.checkpointing.aligned-checkpoint-timeout",
        kind: "duration",
        default: "0ms",
        help: "With unaligned checkpoints: a barrier waits so long in its place before it overtakes.",
    },
    ConfigKey {
        name: "execution.checkpointing.savepoint-dir",
        kind: "text",
        default: "savepoints in the dir",
        help: "Where savepoints go that are not told another place.",
    },
    ConfigKey {
        name: "checkpoint.bundle",
        kind: "text",
        default: "flush",
        help: "flush: an open bundle is handed to the UDF before the barrier passes. persist: its rows go into the checkpoint, so that a slow UDF does not delay it.",
    },
    ConfigKey {
        name: "state.backend.type",
        kind: "text",
        default: "memory",
        help: "Where the states of keys are kept. memory: all of them. disk: those used last in memory, the others on disk, for state that is larger than memory.",
    },
    ConfigKey {
        name: "state.backend.disk.memory",
        kind: "size",
        default: "128MiB",
        help: "About how much memory one subtask of a node with keys takes for its state.",
    },
    ConfigKey {
        name: "state.backend.disk.dir",
        kind: "text",
        default: "that for temporary files",
        help: "Where the states that memory has no room for are kept while the job runs; checkpoints do not need it. A folder on a disk.",
    },
    ConfigKey {
        name: "restart-strategy.type",
        kind: "text",
        default: "exponential-delay with checkpoints, else none",
        help: "none, fixed-delay, exponential-delay or failure-rate: what happens when a part of the job fails.",
    },
    ConfigKey {
        name: "restart-strategy.fixed-delay.attempts",
        kind: "integer",
        default: "1",
        help: "Restarts before the job fails.",
    },
    ConfigKey {
        name: "restart-strategy.fixed-delay.delay",
        kind: "duration",
        default: "1s",
        help: "Wait before a restart.",
    },
    ConfigKey {
        name: "restart-strategy.exponential-delay.initial-backoff",
        kind: "duration",
        default: "1s",
        help: "Wait before the first restart.",
    },
    ConfigKey {
        name: "restart-strategy.exponential-delay.max-backoff",
        kind: "duration",
        default: "1min",
        help: "Longest wait before a restart.",
    },
    ConfigKey {
        name: "restart-strategy.exponential-delay.backoff-multiplier",
        kind: "number",
        default: "1.5",
        help: "By which the wait grows with every failure. At least 1.",
    },
    ConfigKey {
        name: "restart-strategy.exponential-delay.reset-backoff-threshold",
        kind: "duration",
        default: "1h",
        help: "After so long without a failure the wait is the first one again.",
    },
    ConfigKey {
        name: "restart-strategy.exponential-delay.attempts-before-reset-backoff",
        kind: "integer",
        default: "no limit",
        help: "Restarts before the job fails, counted anew when the wait is.",
    },
    ConfigKey {
        name: "restart-strategy.failure-rate.max-failures-per-interval",
        kind: "integer",
        default: "1",
        help: "More failures than that in an interval fail the job.",
    },
    ConfigKey {
        name: "restart-strategy.failure-rate.failure-rate-interval",
        kind: "duration",
        default: "1min",
        help: "The interval in which failures are counted.",
    },
    ConfigKey {
        name: "restart-strategy.failure-rate.delay",
        kind: "duration",
        default: "1s",
        help: "Wait before a restart.",
    },
    ConfigKey {
        name: "failures.dir",
        kind: "text",
        default: "failures in Wasmill's cache",
        help: "Where calls of UDFs that end the job are recorded, for `wasmill replay`.",
    },
    ConfigKey {
        name: "failures.keep",
        kind: "integer",
        default: "10",
        help: "So many records of a job are kept, the newest. 0: nothing is recorded. 0 to 1000.",
    },
];

const BUNDLES: [(&str, BarrierBundle); 2] = [("flush", BarrierBundle::Flush), ("persist", BarrierBundle::Persist)];

const MODES: [(&str, ExecutionMode); 2] = [("bundle", ExecutionMode::Bundle), ("thread", ExecutionMode::Thread)];

impl Config {
    /// Reads every known key out of `options` and reports all that is wrong.
    pub fn read(mut options: Options) -> (Config, Vec<OptionError>) {
        let mut config = Config::default();
        let mut errors = Vec::new();
        let mut keep = |result: Result<(), OptionError>| errors.extend(result.err());
        keep(bounded(&mut options, "parallelism", 1..=1024).map(|value| set(&mut config.parallelism, value)));
        keep(bounded(&mut options, "pipeline.max-parallelism", 1..=32768).map(|value| config.max_parallelism = value));
        keep(bounded(&mut options, "bundle.size", 1..=1_000_000).map(|value| set(&mut config.bundle_rows_max, value)));
        keep(options.duration("bundle.time").map(|value| set(&mut config.bundle_time, value)));
        keep(
            bounded(&mut options, "arrow.batch.size", 1..=1_000_000)
                .map(|value| set(&mut config.batch_rows_max, value)),
        );
        keep(options.choice("execution-mode", &MODES).map(|value| set(&mut config.execution_mode, value)));
        keep(
            options
                .duration("pipeline.auto-watermark-interval")
                .map(|value| set(&mut config.watermark_interval, value)),
        );
        keep(
            bounded(&mut options, "exchange.elements.max", 1..=4096)
                .map(|value| set(&mut config.exchange_elements_max, value)),
        );
        keep(options.unsigned("seed").map(|value| set(&mut config.seed, value)));
        keep(options.choice("checkpoint.bundle", &BUNDLES).map(|value| set(&mut config.checkpoint_bundle, value)));
        keep(options.string("failures.dir").map(|dir| config.failures.dir = dir));
        keep(
            bounded(&mut options, "failures.keep", 0..=1000).map(|value| set(&mut config.failures.records_max, value)),
        );
        errors.extend(read_checkpoint(&mut options, &mut config.checkpoint));
        errors.extend(read_state_backend(&mut options, &mut config.state_backend));
        errors.extend(read_restart(&mut options, &mut config.restart));
        errors.extend(options.finish());
        (config, errors)
    }

    /// What happens after a failure.
    pub fn restart_strategy(&self) -> RestartStrategy {
        let default = if self.checkpoint.dir.is_some() { RestartStrategy::EXPONENTIAL } else { RestartStrategy::None };
        self.restart.clone().unwrap_or(default)
    }

    /// Rows of one call: a bundle, a batch, or a single row.
    pub fn call_rows_max(&self) -> usize {
        match self.execution_mode {
            ExecutionMode::Thread => 1,
            ExecutionMode::Bundle => self.bundle_rows_max.min(self.batch_rows_max),
        }
    }
}

/// Flink's default for jobs that checkpoint, were there one; without it a directory alone would do nothing.
const INTERVAL: Duration = Duration::from_secs(10);

fn read_checkpoint(options: &mut Options, config: &mut CheckpointConfig) -> Vec<OptionError> {
    const PREFIX: &str = "execution.checkpointing";
    let key = |name: &str| format!("{PREFIX}.{name}");
    let mut errors = Vec::new();
    let mut keep = |result: Result<(), OptionError>| errors.extend(result.err());
    let at = options.at(&key("interval"));
    keep(options.string(&key("dir")).map(|value| config.dir = value));
    keep(options.string(&key("savepoint-dir")).map(|value| config.savepoint_dir = value));
    let interval = options.duration(&key("interval"));
    if config.dir.is_none() && !matches!(interval, Ok(None)) {
        let message = format!("does nothing without {PREFIX}.dir: say where checkpoints are to be kept");
        keep(Err(OptionError { at, key: key("interval"), message }));
    }
    let default = config.dir.is_some().then_some(INTERVAL);
    keep(interval.map(|value| config.interval = value.or(default).filter(|interval| !interval.is_zero())));
    keep(options.duration(&key("min-pause")).map(|value| set(&mut config.min_pause, value)));
    let at = options.at(&key("timeout"));
    match options.duration(&key("timeout")) {
        Ok(Some(Duration::ZERO)) => {
            let message = "is 0: no checkpoint would ever be in time; leave it out for ten minutes".to_owned();
            keep(Err(OptionError { at, key: key("timeout"), message }));
        }
        timeout => keep(timeout.map(|value| set(&mut config.timeout, value))),
    }
    let failures = options.unsigned(&key("tolerable-failed-checkpoints"));
    keep(failures.map(|value| set(&mut config.tolerable_failures, value)));
    let at = options.at(&key("max-concurrent-checkpoints"));
    keep(
        bounded(options, &key("max-concurrent-checkpoints"), 1..=64)
            .map(|value| set(&mut config.concurrent_max, value)),
    );
    keep(bounded(options, &key("num-retained"), 1..=1000).map(|value| set(&mut config.retained, value)));
    keep(options.boolean(&key("unaligned.enabled")).map(|value| set(&mut config.unaligned, value)));
    keep(options.duration(&key("aligned-checkpoint-timeout")).map(|value| config.aligned_timeout = value));
    if config.unaligned && config.concurrent_max > 1 {
        let message = format!("is {}; unaligned checkpoints are taken one at a time", config.concurrent_max);
        keep(Err(OptionError { at, key: key("max-concurrent-checkpoints"), message }));
    }
    errors
}

#[derive(Clone, Copy, PartialEq)]
enum BackendKind {
    Memory,
    Disk,
}

const BACKENDS: [(&str, BackendKind); 2] = [("memory", BackendKind::Memory), ("disk", BackendKind::Disk)];

const STATE_MEMORY_BYTES: u64 = 128 << 20;

fn read_state_backend(options: &mut Options, config: &mut StateBackend) -> Vec<OptionError> {
    let (memory, dir) = ("state.backend.disk.memory", "state.backend.disk.dir");
    let mut errors = Vec::new();
    let given = [memory, dir].map(|key| options.contains(key).then(|| (key, options.at(key))));
    let (kind, bytes) = (options.choice("state.backend.type", &BACKENDS), options.bytes(memory));
    let (kind, bytes, place) = match (kind, bytes, options.string(dir)) {
        (Ok(kind), Ok(bytes), Ok(place)) => (kind, bytes.unwrap_or(STATE_MEMORY_BYTES), place),
        (kind, bytes, place) => {
            errors.extend(kind.err().into_iter().chain(bytes.err()).chain(place.err()));
            return errors;
        }
    };
    if kind != Some(BackendKind::Disk) {
        let idle = given.into_iter().flatten().map(|(key, at)| {
            let message = "does nothing without state.backend.type: disk".to_owned();
            OptionError { at, key: key.to_owned(), message }
        });
        errors.extend(idle);
        return errors;
    }
    *config = StateBackend::Disk { memory_bytes: bytes, dir: place.map(PathBuf::from) };
    errors
}

#[derive(Clone, Copy)]
enum RestartKind {
    None,
    FixedDelay,
    ExponentialDelay,
    FailureRate,
}

const RESTARTS: [(&str, RestartKind); 4] = [
    ("none", RestartKind::None),
    ("fixed-delay", RestartKind::FixedDelay),
    ("exponential-delay", RestartKind::ExponentialDelay),
    ("failure-rate", RestartKind::FailureRate),
];

/// Reads the keys of every strategy, so that those of another than the chosen one are checked too.
fn read_restart(options: &mut Options, restart: &mut Option<RestartStrategy>) -> Vec<OptionError> {
    let mut errors = Vec::new();
    let mut duration = |options: &mut Options, name: &str, default: u64| {
        let value = options.duration(&format!("restart-strategy.{name}"));
        let value = value.unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        value.unwrap_or(Duration::from_secs(default))
    };
    let fixed_delay = duration(options, "fixed-delay.delay", 1);
    let initial = duration(options, "exponential-delay.initial-backoff", 1);
    let max = duration(options, "exponential-delay.max-backoff", 60);
    let reset_after = duration(options, "exponential-delay.reset-backoff-threshold", 3600);
    let interval = duration(options, "failure-rate.failure-rate-interval", 60);
    let rate_delay = duration(options, "failure-rate.delay", 1);
    let mut number = |options: &mut Options, name: &str, default: u64| {
        let value = options.unsigned(&format!("restart-strategy.{name}"));
        value
            .unwrap_or_else(|error| {
                errors.push(error);
                None
            })
            .unwrap_or(default)
    };
    let fixed_attempts = number(options, "fixed-delay.attempts", 1);
    let exponential_attempts = number(options, "exponential-delay.attempts-before-reset-backoff", u64::MAX);
    let failures_max = number(options, "failure-rate.max-failures-per-interval", 1);
    let key = "restart-strategy.exponential-delay.backoff-multiplier";
    let at = options.at(key);
    let multiplier = match options.value(key).map(|value| value.scalar_text().and_then(|text| text.parse::<f64>().ok()))
    {
        None => 1.5,
        Some(Some(multiplier)) if (1.0..=1000.0).contains(&multiplier) => multiplier,
        Some(_) => {
            let message = "is no number from 1 to 1000".to_owned();
            errors.push(OptionError { at, key: key.to_owned(), message });
            1.5
        }
    };
    match options.choice("restart-strategy.type", &RESTARTS) {
        Err(error) => errors.push(error),
        Ok(kind) => {
            *restart = kind.map(|kind| match kind {
                RestartKind::None => RestartStrategy::None,
                RestartKind::FixedDelay => RestartStrategy::FixedDelay { attempts: fixed_attempts, delay: fixed_delay },
                RestartKind::ExponentialDelay => RestartStrategy::ExponentialDelay {
                    initial,
                    max,
                    multiplier,
                    reset_after,
                    attempts: exponential_attempts,
                },
                RestartKind::FailureRate => RestartStrategy::FailureRate { failures_max, interval, delay: rate_delay },
            });
        }
    }
    errors
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn bounded(
    options: &mut Options,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<usize>, OptionError> {
    let at = options.at(key);
    let Some(value) = options.unsigned(key)? else { return Ok(None) };
    if !range.contains(&value) {
        let message = format!("is {value}; {} to {} is possible", range.start(), range.end());
        return Err(OptionError { at, key: key.to_owned(), message });
    }
    Ok(Some(usize::try_from(value).expect("bounded by the range")))
}

/// Flink's default for the number of key groups: min(max(next power of two of p + p/2, 128), 32768).
pub fn default_max_parallelism(parallelism: usize) -> usize {
    (parallelism + parallelism / 2).next_power_of_two().clamp(128, 32768)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    /// Conformance case K1.
    #[test]
    fn max_parallelism_is_flinks() {
        for (parallelism, expected) in [(1, 128), (85, 128), (86, 256), (171, 256), (1000, 2048), (22000, 32768)] {
            assert_eq!(default_max_parallelism(parallelism), expected, "{parallelism}");
        }
    }

    fn read(pairs: &[(&str, &str)]) -> (Config, Vec<OptionError>) {
        let mut options = Options::default();
        pairs.iter().for_each(|(key, value)| options.set(key, Value::scalar(value)));
        Config::read(options)
    }

    /// What a key needs beside it to mean something.
    fn beside(key: &str) -> Vec<(&'static str, &'static str)> {
        let strategies = ["fixed-delay", "exponential-delay", "failure-rate"];
        let strategy = strategies.into_iter().find(|name| key.starts_with(&format!("restart-strategy.{name}.")));
        let strategy = strategy.map(|name| ("restart-strategy.type", name));
        let dir = key.starts_with("execution.checkpointing").then_some(("execution.checkpointing.dir", "c"));
        let disk = key.starts_with("state.backend.disk").then_some(("state.backend.type", "disk"));
        strategy.into_iter().chain(disk).chain(dir.filter(|(dir, _)| *dir != key)).collect()
    }

    #[test]
    fn every_documented_key_is_read_and_no_other() {
        for key in KEYS {
            let value = match (key.kind, key.name) {
                ("integer" | "number", _) => "7",
                ("duration", _) => "7ms",
                ("bool", _) => "true",
                ("size", _) => "7MiB",
                (_, "state.backend.type") => "disk",
                (_, "restart-strategy.type") => "none",
                (_, "checkpoint.bundle") => "persist",
                _ => "thread",
            };
            let without = read(&beside(key.name));
            let with = read(&[beside(key.name), vec![(key.name, value)]].concat());
            assert_eq!((without.1, with.1), (vec![], vec![]), "{}", key.name);
            assert_ne!(without.0, with.0, "{}", key.name);
        }
        let (_, errors) = read(&[("bundle.sise", "7")]);
        assert_eq!(errors[0].to_string(), "bundle.sise: unknown key; did you mean \"bundle.size\"?");
    }

    #[test]
    fn settings_that_would_do_nothing_are_refused() {
        for (pairs, message) in [
            (
                vec![("execution.checkpointing.interval", "1s")],
                "execution.checkpointing.interval: does nothing without execution.checkpointing.dir: say where checkpoints are to be kept",
            ),
            (
                vec![
                    ("execution.checkpointing.dir", "c"),
                    ("execution.checkpointing.unaligned.enabled", "true"),
                    ("execution.checkpointing.max-concurrent-checkpoints", "2"),
                ],
                "execution.checkpointing.max-concurrent-checkpoints: is 2; unaligned checkpoints are taken one at a time",
            ),
            (
                vec![("execution.checkpointing.dir", "c"), ("execution.checkpointing.timeout", "0s")],
                "execution.checkpointing.timeout: is 0: no checkpoint would ever be in time; leave it out for ten minutes",
            ),
            (
                vec![("state.backend.disk.memory", "1MiB")],
                "state.backend.disk.memory: does nothing without state.backend.type: disk",
            ),
            (
                vec![("restart-strategy.exponential-delay.backoff-multiplier", "0.5")],
                "restart-strategy.exponential-delay.backoff-multiplier: is no number from 1 to 1000",
            ),
        ] {
            assert_eq!(read(&pairs).1[0].to_string(), message);
        }
    }

    #[test]
    fn the_schema_has_every_key() {
        let schema: serde_json::Value = serde_json::from_str(crate::JOB_SCHEMA).unwrap();
        let properties = schema["properties"]["config"]["properties"].as_object().unwrap();
        assert_eq!(properties.len(), KEYS.len());
        for key in KEYS {
            assert_eq!(properties[key.name]["description"], key.help, "{}", key.name);
        }
    }

    #[test]
    fn out_of_range_is_refused() {
        let mut options = Options::default();
        options.set("parallelism", Value::scalar("0"));
        let (_, errors) = Config::read(options);
        assert_eq!(errors[0].to_string(), "parallelism: is 0; 1 to 1024 is possible");
    }
}
