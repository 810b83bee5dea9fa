//! The configuration of a job: every key, its default, and what it does. Names are PyFlink's where the thing is the same.

use std::time::Duration;

use crate::value::{OptionError, Options};

/// When the guest is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionMode {
    /// Once a bundle.
    Bundle,
    /// Once a row: lowest latency, and what PyFlink's thread mode does.
    Thread,
}

#[derive(Debug, Clone, PartialEq, Eq)]
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
];

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
        errors.extend(options.finish());
        (config, errors)
    }

    /// Rows of one call: a bundle, a batch, or a single row.
    pub fn call_rows_max(&self) -> usize {
        match self.execution_mode {
            ExecutionMode::Thread => 1,
            ExecutionMode::Bundle => self.bundle_rows_max.min(self.batch_rows_max),
        }
    }
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

    #[test]
    fn every_documented_key_is_read_and_no_other() {
        for key in KEYS {
            let mut options = Options::default();
            let value = match key.kind {
                "integer" => Value::scalar("7"),
                "duration" => Value::scalar("7ms"),
                _ => Value::scalar("thread"),
            };
            options.set(key.name, value);
            let (config, errors) = Config::read(options);
            assert_eq!(errors, [], "{}", key.name);
            assert_ne!(config, Config::default(), "{}", key.name);
        }
        let mut options = Options::default();
        options.set("bundle.sise", Value::scalar("7"));
        let (_, errors) = Config::read(options);
        assert_eq!(errors[0].to_string(), "bundle.sise: unknown key; did you mean \"bundle.size\"?");
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
