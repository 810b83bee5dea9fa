//! Random jobs, a store that fails, and the comparison of a run full of failures with one that has none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use wasmill_connectors::{CollectSink, CollectionSource};
use wasmill_runtime::checkpoint::inspect;
use wasmill_runtime::checkpoint::restore::Restored;
use wasmill_runtime::checkpoint::storage::{CheckpointStorage, Claim, StorageError};
use wasmill_runtime::graph::JobGraph;
use wasmill_runtime::simulate::{Chance, Faults, Sabotage, Simulation, Tally};
use wasmill_runtime::spec::{JobSpec, NodeSpec, UdfSpec};
use wasmill_runtime::validate::validate;

use crate::{built, connectors, environment};

/// Checkpoints in memory, of which some cannot be written.
#[derive(Debug)]
pub struct FaultyStorage {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    chance: Mutex<Chance>,
    /// Writes and removals in a million that fail.
    failing: Mutex<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultyStorage {
    pub fn new(seed: u64, failing: u64) -> FaultyStorage {
        FaultyStorage { files: Mutex::default(), chance: Mutex::new(Chance::new(seed)), failing: Mutex::new(failing) }
    }

    fn fails(&self) -> Option<u64> {
        let mut chance = lock(&self.chance);
        chance.hit(*lock(&self.failing)).then(|| chance.number())
    }
}

struct Free;

impl Claim for Free {}

impl CheckpointStorage for FaultyStorage {
    fn put(&self, name: &str, content: &[u8]) -> Result<(), StorageError> {
        let Some(how) = self.fails() else {
            lock(&self.files).insert(name.to_owned(), content.to_vec());
            return Ok(());
        };
        match how % 3 {
            // The answer got lost: it is there all the same.
            0 => drop(lock(&self.files).insert(name.to_owned(), content.to_vec())),
            // Torn, as a store may leave it that does not keep its word. A manifest is never: it would be told as damaged.
            1 if name.starts_with("state/") => {
                let torn = content[..content.len() / 2].to_vec();
                lock(&self.files).insert(name.to_owned(), torn);
            }
            _ => {}
        }
        Err(StorageError::io(format!("cannot write {name}: the disk is full"), name))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StorageError> {
        lock(&self.files).get(name).cloned().ok_or_else(|| StorageError::Missing { place: name.to_owned() })
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        Ok(lock(&self.files).keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        if self.fails().is_some() {
            return Err(StorageError::io(format!("cannot remove {name}"), name));
        }
        lock(&self.files).remove(name);
        Ok(())
    }

    fn location(&self, name: Option<&str>) -> String {
        name.unwrap_or("memory").to_owned()
    }

    fn claim(&self) -> Result<Box<dyn Claim>, StorageError> {
        Ok(Box::new(Free))
    }
}

/// A random job and its rows.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    sources: usize,
    splits: usize,
    rows: usize,
    bundle: u64,
    batch: u64,
    elements: u64,
    persist: bool,
    /// 0 aligned, 1 unaligned, 2 with a timeout.
    alignment: u64,
    interval_ms: u64,
    concurrent: u64,
    /// A node between sources and keyed ones that may spread rows: their order is lost then.
    spreads: bool,
    by_call: bool,
    average: bool,
    windows: bool,
    rescales: bool,
    /// Rows on which a function raises go to a sink of their own.
    letters: bool,
    /// State on disk, with so much memory; 0: in memory.
    disk_bytes: u64,
    /// The last source has a sink of its own, so that there are two regions.
    apart: bool,
}

/// What a run leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Of each sink, sorted.
    pub rows: BTreeMap<String, Vec<String>>,
    /// Of each node with state, sorted.
    pub states: BTreeMap<String, Vec<String>>,
}

impl Scenario {
    pub fn new(seed: u64) -> Scenario {
        let mut chance = Chance::new(seed ^ 0x5ca1_ab1e);
        let spreads = chance.below(3) == 0;
        // Averages tell the order of a key's rows: they are for jobs that keep it.
        let average = !spreads && chance.below(4) > 0;
        let alignment = chance.below(3);
        let sources = 1 + chance.below(2) as usize;
        Scenario {
            seed,
            sources,
            splits: 1 + chance.below(3) as usize,
            rows: 20 + chance.below(150) as usize,
            bundle: [1, 3, 7, 50][chance.below(4) as usize],
            batch: [1, 4, 9, 40][chance.below(4) as usize],
            elements: 1 + chance.below(6),
            persist: chance.below(2) == 0,
            alignment,
            interval_ms: 1 + chance.below(40),
            concurrent: if alignment == 0 { 1 + chance.below(3) } else { 1 },
            spreads,
            by_call: chance.below(3) == 0,
            average,
            windows: !average || chance.below(2) == 0,
            rescales: chance.below(2) == 0,
            letters: chance.below(3) == 0,
            // Memory for no key at all between two bundles, and for some.
            disk_bytes: [0, 0, 1, 1 << 10][chance.below(4) as usize],
            apart: sources > 1 && chance.below(2) == 0,
        }
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("key", DataType::Int64, false),
            Field::new("v", DataType::Int64, false),
            Field::new("value", DataType::Float64, false),
            Field::new("at", DataType::Int64, false),
        ]))
    }

    /// A key is of one split alone, so that its rows have an order.
    fn source(&self, source: usize) -> Arc<CollectionSource> {
        let split = |split: usize| {
            let mut chance = Chance::new(self.seed.wrapping_mul(31).wrapping_add((source * 10 + split) as u64));
            let first = (source * self.splits + split) as i64 * 4;
            let keys: Vec<i64> = (0..self.rows).map(|_| first + chance.below(4) as i64).collect();
            // On 666 the windows' function raises; a node that spreads rows adds one before.
            let raising = 666 - i64::from(self.spreads);
            let value = |row: i64| match self.letters && row % 13 == 5 {
                true => raising,
                false => row * 7 % 600 + first * 1000,
            };
            let values: Vec<i64> = (0..self.rows as i64).map(value).collect();
            // Out of order by less than the watermark's delay.
            let times: Vec<i64> = (0..self.rows as i64).map(|row| row * 40 + chance.below(900) as i64).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(keys)),
                Arc::new(Int64Array::from(values.clone())),
                Arc::new(Float64Array::from_iter_values(values.iter().map(|value| *value as f64))),
                Arc::new(Int64Array::from(times)),
            ];
            vec![RecordBatch::try_new(Scenario::schema(), columns).expect("the columns are the schema's")]
        };
        let splits = (0..self.splits).map(split).collect();
        Arc::new(CollectionSource::from_splits(Scenario::schema(), splits).expect("the batches have the schema"))
    }

    /// The job as it is started for the nth time, after so many swaps: every other one reaches its state in the other way.
    fn graph(&self, incarnation: u64, swaps: u64, sinks: &BTreeMap<String, CollectSink>) -> JobGraph {
        let mut chance = Chance::new(self.seed.wrapping_add(if self.rescales { incarnation * 1_000_003 } else { 0 }));
        let mut parallelism = || 1 + chance.below(3);
        let unaligned = if self.alignment == 0 { "false" } else { "true" };
        let timeout = if self.alignment == 2 { "3ms" } else { "0ms" };
        let mut job = JobSpec::new("simulated", ".")
            .config("execution.checkpointing.dir", "memory")
            .config("execution.checkpointing.interval", &format!("{}ms", self.interval_ms))
            .config("execution.checkpointing.timeout", "10s")
            .config("execution.checkpointing.tolerable-failed-checkpoints", "2")
            .config("execution.checkpointing.max-concurrent-checkpoints", &self.concurrent.to_string())
            .config("execution.checkpointing.unaligned.enabled", unaligned)
            .config("execution.checkpointing.aligned-checkpoint-timeout", timeout)
            .config("checkpoint.bundle", if self.persist { "persist" } else { "flush" })
            .config("restart-strategy.type", "fixed-delay")
            .config("restart-strategy.fixed-delay.attempts", "1000000")
            .config("restart-strategy.fixed-delay.delay", "10ms")
            .config("pipeline.auto-watermark-interval", "2ms")
            .config("bundle.size", &self.bundle.to_string())
            .config("bundle.time", "20ms")
            .config("arrow.batch.size", &self.batch.to_string())
            .config("exchange.elements.max", &self.elements.to_string())
            .udf(self.reference());
        let mut registry = connectors();
        if self.letters {
            let letters = sinks["letters"].clone();
            registry.register_sink("letters", move |_| Ok(Arc::new(letters.clone())));
            job = job.dead_letters("letters", []);
        }
        if self.disk_bytes > 0 {
            job = job.config("state.backend.type", "disk");
            job = job.config("state.backend.disk.memory", &self.disk_bytes.to_string());
            // Each task that begins makes a store of its own: in memory that takes a tenth of the time.
            job = job.config("state.backend.disk.dir", if cfg!(target_os = "linux") { "/dev/shm" } else { "." });
        }
        let names: Vec<String> = (0..self.sources).map(|source| format!("s{source}")).collect();
        let source_parallelism = parallelism();
        for (index, name) in names.iter().enumerate() {
            let node = NodeSpec::source_built(name, self.source(index)).watermark("at", "1s");
            job = job.node(node.parallelism(source_parallelism));
        }
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        if self.apart
            && let Some(name) = names.pop()
        {
            let node = NodeSpec::with("other", name, [("v", "ref.add_one(v)")]).parallelism(parallelism());
            job = job.node(node).node(NodeSpec::sink_built("others", "other", Arc::new(sinks["others"].clone())));
        }
        let mut last = names[0];
        if names.len() > 1 {
            job = job.node(NodeSpec::union("both", &names).parallelism(source_parallelism));
            last = "both";
        }
        if self.spreads {
            let node = NodeSpec::with("more", last, [("v", "ref.add_one(v)")]);
            job = job.node(node.parallelism(parallelism()));
            last = "more";
        }
        if self.average {
            let call = if self.by_call ^ (swaps % 2 == 1) {
                "ref.KeyedAverageByCall(value)"
            } else {
                "ref.KeyedAverage(value)"
            };
            let node = NodeSpec::process("average", last, call).key(["key"]).parallelism(parallelism());
            job = job.node(node).node(NodeSpec::sink_built("averages", "average", Arc::new(sinks["averages"].clone())));
        }
        if self.windows {
            let node = NodeSpec::tumbling("window", last, "500ms", "ref.Statistics(v)").key(["key"]);
            job = job.node(node.parallelism(parallelism()));
            job = job.node(NodeSpec::sink_built("windows", "window", Arc::new(sinks["windows"].clone())));
        }
        validate(&job, &environment(), &registry).unwrap_or_else(|problems| panic!("seed {}: {problems:?}", self.seed))
    }

    fn reference(&self) -> UdfSpec {
        let path = built("guests/target/wasm32-wasip2/release/reference.wasm");
        let udf = UdfSpec::new("ref", &path.display().to_string());
        if self.letters { udf.set("on-error", "dead-letter") } else { udf }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// That it does not come to its end.
    pub fn run(&self, faults: Faults, sabotage: Option<Sabotage>) -> Result<(Outcome, Tally), String> {
        let failing = if faults.steps == 0 { 0 } else { 30_000 };
        let places = AtomicU64::new(0);
        let place = || -> Arc<dyn CheckpointStorage> {
            let seed = self.seed.wrapping_add(places.fetch_add(1, Ordering::Relaxed) << 32);
            Arc::new(FaultyStorage::new(seed, failing))
        };
        let sinks = ["averages", "letters", "others", "windows"].map(|name| (name.to_owned(), CollectSink::new()));
        let sinks = BTreeMap::from(sinks);
        let graph = |incarnation, swaps| self.graph(incarnation, swaps, &sinks);
        let simulation = Simulation { seed: self.seed, graph: &graph, place: &place, faults, sabotage };
        let (tally, storage) = simulation.run()?;
        let rows = sinks.iter().map(|(name, sink)| (name.clone(), lines(&sink.batches()))).collect();
        let last = Restored::newest(&storage).map_err(|error| error.to_string())?;
        let last = last.ok_or("the job has come to its end without a checkpoint")?;
        let mut states = BTreeMap::new();
        for node in inspect::nodes(&last) {
            let rows = inspect::states(&last, &node).map_err(|error| error.to_string())?;
            states.insert(node, lines(&rows));
        }
        Ok((Outcome { rows, states }, tally))
    }

    /// Says what is different from a run without faults, if anything is.
    pub fn difference(&self, faults: Faults, sabotage: Option<Sabotage>) -> (Option<String>, Tally) {
        let (want, _) = match self.run(Faults::NONE, None) {
            Ok(good) => good,
            Err(error) => return (Some(format!("without faults: {error}")), Tally::default()),
        };
        match self.run(faults, sabotage) {
            Err(error) => (Some(error), Tally::default()),
            Ok((got, tally)) => {
                let rows = want.rows.iter().map(|(name, rows)| (name, rows, &got.rows[name]));
                let nothing = Vec::new();
                let states =
                    want.states.iter().map(|(name, rows)| (name, rows, got.states.get(name).unwrap_or(&nothing)));
                let told = rows.chain(states).filter_map(|(name, want, got)| compare(name, want, got));
                (told.collect::<Vec<_>>().into_iter().reduce(|all, more| format!("{all}; {more}")), tally)
            }
        }
    }
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells =
                batch.columns().iter().map(|column| array_value_to_string(column, row).expect("a value has a text"));
            lines.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    lines.sort();
    lines
}

/// What is lost and what is too much, of sorted lines.
fn compare(name: &str, want: &[String], got: &[String]) -> Option<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    want.iter().for_each(|line| *counts.entry(line).or_default() -= 1);
    got.iter().for_each(|line| *counts.entry(line).or_default() += 1);
    let of = |sign: i64| {
        let lines: Vec<String> = counts
            .iter()
            .filter(|(_, count)| **count * sign > 0)
            .map(|(line, count)| format!("{}×({line})", count.abs()))
            .collect();
        (lines.len(), lines.into_iter().take(3).collect::<Vec<_>>().join(" "))
    };
    let ((lost, which_lost), (more, which_more)) = (of(-1), of(1));
    (lost + more > 0).then(|| format!("{name}: {lost} lost {which_lost}, {more} doubled or different {which_more}"))
}
