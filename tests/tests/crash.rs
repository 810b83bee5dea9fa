//! The built program on real files, killed at random moments and gone on with until it comes to its end: each row is there once.
//!
//! `make soak KILLS=1000` kills it more often. A failure prints the seed of its round; `CRASH_SEED=… make soak` begins there. The
//! same seed gives the same jobs and the same plans for deaths; at which row one comes is up to the machine.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::util::display::array_value_to_string;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;
use wasmill_runtime::simulate::Chance;
use wasmill_tests::{built, read_parquet, root};

/// Deaths of one test run, unless `KILLS` says otherwise.
const KILLS: u64 = 50;
/// Of one job, before it may come to its end.
const KILLS_OF_ROUND: u64 = 10;
/// The first round reads all flights, the others the first of them, so that most of the time goes into dying.
const ROWS_OF_ROUND: usize = 100_000;
/// Of a process that has been told to stop, or is to come to its end: that is no measure, only a guard against waiting for ever.
const PATIENCE: Duration = Duration::from_secs(300);

const FORMATS: [&str; 3] = ["jsonl", "csv", "parquet"];
const SINKS: [&str; 2] = ["daily", "legs"];

/// Cells of a row as texts that are the same whichever format they come from.
type Row = Vec<String>;

/// How one process is to die.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// After so long, wherever it is then: loading, going on, running, ending.
    After(Duration),
    /// When so many more checkpoints are complete: at the next commit.
    Completed(usize),
    /// When so many more files have appeared: in the midst of a commit, or just behind it.
    Appeared(usize),
    /// It is told to stop by this signal after so long, and may finish what is on its way.
    Told(&'static str, Duration),
}

impl Death {
    fn random(chance: &mut Chance) -> Death {
        let after = |chance: &mut Chance, most| Duration::from_micros(chance.below(most));
        match chance.below(11) {
            // Soon: while it goes on from where another one died.
            0 | 1 => Death::After(after(chance, 400_000)),
            2..=4 => Death::After(after(chance, 800_000)),
            5 | 6 => Death::Completed(1 + chance.below(4) as usize),
            7 | 8 => Death::Appeared(1 + chance.below(6) as usize),
            _ => Death::Told(["TERM", "INT"][chance.below(2) as usize], after(chance, 700_000)),
        }
    }
}

/// One job with settings of its own, from its beginning to its end.
#[derive(Debug)]
struct Round {
    seed: u64,
    chance: Chance,
    settings: BTreeMap<String, String>,
    formats: [&'static str; 2],
    parallelism: u64,
}

impl fmt::Display for Round {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CRASH_SEED={}: parallelism {}, {:?}", self.seed, self.parallelism, self.settings)
    }
}

impl Round {
    fn new(seed: u64) -> Round {
        let mut chance = Chance::new(seed);
        let mut settings = BTreeMap::new();
        let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
        set("execution.checkpointing.interval", format!("{}ms", 50 + chance.below(51)));
        set("execution.checkpointing.num-retained", (1 + chance.below(3)).to_string());
        match chance.below(3) {
            0 => drop(set("execution.checkpointing.max-concurrent-checkpoints", (1 + chance.below(3)).to_string())),
            kind => {
                set("execution.checkpointing.unaligned.enabled", "true".into());
                let timeout = if kind == 1 { 0 } else { 1 + chance.below(30) };
                set("execution.checkpointing.aligned-checkpoint-timeout", format!("{timeout}ms"));
            }
        }
        set("checkpoint.bundle", ["flush", "persist"][chance.below(2) as usize].into());
        set("bundle.size", (20 + chance.below(1000)).to_string());
        // Small ones, so that a barrier comes through while rows wait.
        set("arrow.batch.size", (100 + chance.below(900)).to_string());
        set("exchange.elements.max", (1 + chance.below(8)).to_string());
        let formats = [FORMATS[chance.below(3) as usize], FORMATS[chance.below(3) as usize]];
        for (sink, (node, format)) in SINKS.iter().zip(["out", "legs"].iter().zip(formats)) {
            set(&format!("nodes.{node}.sink"), format.into());
            set(&format!("nodes.{node}.path"), format!("out/{sink}"));
            set(&format!("nodes.{node}.overwrite"), (chance.below(2) == 0).to_string());
            if chance.below(2) == 0 {
                set(&format!("nodes.{node}.roll.size"), format!("{}KiB", 1 + chance.below(100)));
            }
        }
        set("dead-letters.path", "out/dead-letters".into());
        set("nodes.flights.path", "flights.parquet".into());
        Round { seed, chance, settings, formats, parallelism: 2 }
    }

    /// Runs the job in `folder` until it ends by itself; how often it was killed, and told to stop.
    fn run(&mut self, folder: &Path, kills_max: u64) -> (u64, u64) {
        let (mut kills, mut stops, mut began) = (0, 0, false);
        loop {
            if began && self.chance.below(4) == 0 {
                self.parallelism = 1 + self.chance.below(3);
            }
            let death = (kills < kills_max).then(|| Death::random(&mut self.chance));
            // Where there is nothing to go on from, the job begins.
            let resume = began || self.chance.below(2) == 0;
            let ended = Process::start(self, folder, resume).until(death);
            began = true;
            match ended {
                Ended::Well => return (kills, stops),
                Ended::Killed => kills += 1,
                Ended::Stopped => stops += 1,
                Ended::Failed(text) => {
                    // Rows that no key leads to their subtask cannot be given to other subtasks: that is said, and changes nothing.
                    let refused = text.contains("keep its parallelism, or change it with a savepoint");
                    let had = text.split(" had ").nth(1).and_then(|text| text.split(' ').next()?.parse().ok());
                    assert!(refused && had.is_some_and(|had| had != self.parallelism), "{self}\n{death:?}: {text}");
                    self.parallelism = had.unwrap();
                }
            }
        }
    }
}

/// The job is running.
struct Process<'a> {
    round: &'a Round,
    folder: &'a Path,
    child: Child,
    errors: PathBuf,
}

enum Ended {
    Well,
    Killed,
    Stopped,
    /// With what it said.
    Failed(String),
}

impl<'a> Process<'a> {
    fn start(round: &'a Round, folder: &'a Path, resume: bool) -> Process<'a> {
        let errors = folder.join("errors");
        let mut command = program(folder);
        command.args(["--set", "execution.checkpointing.dir=checkpoints"]);
        command.args(["--set", &format!("parallelism={}", round.parallelism)]);
        command.args(round.settings.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]));
        command.args(resume.then_some("--resume"));
        let child = command.stderr(File::create(&errors).unwrap()).spawn().unwrap();
        Process { round, folder, child, errors }
    }

    /// What would be heard of it, if it said something.
    fn said(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap()
    }

    fn until(mut self, death: Option<Death>) -> Ended {
        let (began, files) = (Instant::now(), (self.newest_checkpoint(), self.files()));
        let mut told = false;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return match (status.code(), told) {
                    (Some(0), _) => Ended::Well,
                    // The signal came before the program watched for it.
                    (None, true) if matches!(status.signal(), Some(2 | 15)) => Ended::Killed,
                    (Some(130), true) => {
                        let text = self.said();
                        assert!(text.contains("can go on from checkpoint"), "{}\n{death:?}: {text}", self.round);
                        Ended::Stopped
                    }
                    _ => Ended::Failed(format!("{status}: {}", self.said())),
                };
            }
            let due = match death {
                Some(Death::After(time)) => began.elapsed() >= time,
                Some(Death::Completed(count)) => self.newest_checkpoint() >= files.0 + count,
                Some(Death::Appeared(count)) => self.files() >= files.1 + count,
                Some(Death::Told(signal, time)) => {
                    if !told && began.elapsed() >= time {
                        let id = self.child.id().to_string();
                        told = Command::new("kill").args(["-s", signal, &id]).status().unwrap().success();
                    }
                    false
                }
                None => false,
            };
            if due {
                self.child.kill().unwrap();
                // It may have ended in this moment.
                return if self.child.wait().unwrap().success() { Ended::Well } else { Ended::Killed };
            }
            assert!(began.elapsed() < PATIENCE, "{}\n{death:?}: it does not end: {}", self.round, self.said());
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn newest_checkpoint(&self) -> usize {
        let names = names(&self.folder.join("checkpoints/checkpoints"));
        names.iter().filter_map(|name| name.strip_suffix(".manifest")?.parse().ok()).max().unwrap_or(0)
    }

    fn files(&self) -> usize {
        SINKS.iter().flat_map(|sink| names(&self.folder.join("out").join(sink))).filter(|name| is_visible(name)).count()
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_visible(name: &str) -> bool {
    !name.starts_with('.')
}

/// What is in a folder, also what is hidden; nothing, where there is none.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// `wasmill run` of the job in the folder, alone in its world.
fn program(folder: &Path) -> Command {
    let mut command = Command::new(built("target/release/wasmill"));
    command.current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("TMPDIR", folder);
    command.env("WASMILL_CACHE_DIR", root().join("target/test-cache")).env_remove("RUST_BACKTRACE");
    command.args(["run", "job.yaml", "--quiet"]).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A folder with the demo job, and the first `rows` flights.
fn prepared(flights: &[RecordBatch], rows: usize) -> TempDir {
    let (folder, demo) = (tempfile::tempdir().unwrap(), root().join("guests/demo"));
    built("guests/demo/udfs/distance.wasm");
    std::fs::copy(demo.join("flights.yaml"), folder.path().join("job.yaml")).unwrap();
    for name in ["legs.py", "udfs", "data"] {
        std::os::unix::fs::symlink(demo.join(name), folder.path().join(name)).unwrap();
    }
    let file = File::create(folder.path().join("flights.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, flights[0].schema(), None).unwrap();
    let mut left = rows;
    for batch in flights {
        let part = batch.slice(0, left.min(batch.num_rows()));
        left -= part.num_rows();
        writer.write(&part).unwrap();
    }
    writer.close().unwrap();
    folder
}

/// What the job gives that nothing happens to, without checkpoints.
struct Wanted {
    daily: Vec<Row>,
    legs: Vec<Row>,
    /// Of each leg its aircraft, and its place among the flights.
    places: HashMap<Row, (Option<String>, usize)>,
}

impl Wanted {
    fn new(flights: &[RecordBatch], rows: usize) -> Wanted {
        let folder = prepared(flights, rows);
        let paths = ["nodes.flights.path=flights.parquet", "nodes.out.path=out/daily", "nodes.legs.path=out/legs"];
        let mut command = program(folder.path());
        command.args(paths.iter().flat_map(|path| ["--set", path])).args(["--set", "dead-letters.path=out/dead"]);
        assert!(command.stderr(Stdio::null()).status().unwrap().success());
        let read = |sink: &str| {
            let mut rows: Vec<Row> =
                read_output(&folder.path().join("out").join(sink)).into_iter().flat_map(|(_, rows)| rows).collect();
            rows.sort();
            rows
        };
        let mut places = HashMap::new();
        for batch in flights {
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let tails = column("tailnum").as_string::<i32>();
            for row in 0..batch.num_rows() {
                let cell = |name: &str| cell(&array_value_to_string(column(name), row).unwrap());
                let key = vec![cell("carrier"), cell("flight"), cell("sched_dep")];
                let tail = arrow::array::Array::is_valid(tails, row).then(|| tails.value(row).to_owned());
                let place = places.len();
                assert!(places.insert(key, (tail, place)).is_none(), "these three tell a flight");
            }
        }
        Wanted { daily: read("daily"), legs: read("legs"), places }
    }

    /// What is there is what is wanted, and nothing is left besides.
    fn check(&self, round: &Round, folder: &Path) {
        for (sink, format, wanted) in [("daily", round.formats[0], &self.daily), ("legs", round.formats[1], &self.legs)]
        {
            let place = folder.join("out").join(sink);
            for name in names(&place) {
                let is_part = name.starts_with("part-") && name.ends_with(&format!(".{format}"));
                assert!(is_part, "{round}\n{sink} has {name} at the end");
            }
            let parts = read_output(&place);
            if sink == "legs" {
                self.check_order(round, &parts);
            }
            let mut rows: Vec<Row> = parts.into_iter().flat_map(|(_, rows)| rows).collect();
            rows.sort();
            assert!(&rows == wanted, "{round}\n{sink}: {}", difference(&rows, wanted));
        }
        let letters = names(&folder.join("out/dead-letters"));
        assert!(letters.iter().all(|name| is_visible(name)), "{round}\ndead letters: {letters:?}");
        assert!(read_output(&folder.join("out/dead-letters")).iter().all(|(_, rows)| rows.is_empty()), "{round}");
    }

    /// Rows of an aircraft are in the order of its flights: in a part, and from each part to those of larger numbers.
    fn check_order(&self, round: &Round, parts: &[(u64, Vec<Row>)]) {
        let mut last: HashMap<&Option<String>, usize> = HashMap::new();
        for (number, rows) in parts {
            for row in rows {
                let (tail, place) = &self.places[&row[..3]];
                let before = last.insert(tail, *place);
                assert!(before.is_none_or(|before| before < *place), "{round}\npart {number}: {row:?} comes too late");
            }
        }
    }
}

/// The first that only one of them has.
fn difference(got: &[Row], wanted: &[Row]) -> String {
    let count = |rows: &[Row]| {
        let mut counts: BTreeMap<Row, i64> = BTreeMap::new();
        rows.iter().for_each(|row| *counts.entry(row.clone()).or_default() += 1);
        counts
    };
    let (had, asked) = (count(got), count(wanted));
    let too_many = had.iter().find(|(row, count)| **count > asked.get(*row).copied().unwrap_or(0));
    let missing = asked.iter().find(|(row, count)| **count > had.get(*row).copied().unwrap_or(0));
    format!("{} rows, {} wanted; too often {too_many:?}, too rarely {missing:?}", got.len(), wanted.len())
}

/// Rows of the files in a folder with the number of each part, in its order.
fn read_output(folder: &Path) -> Vec<(u64, Vec<Row>)> {
    let mut parts = Vec::new();
    for name in names(folder) {
        let (stem, format) = name.rsplit_once('.').unwrap();
        let number = stem.rsplit_once('-').unwrap().1.parse().unwrap();
        parts.push((number, read_rows(&folder.join(&name), format)));
    }
    parts.sort_by_key(|(number, _)| *number);
    parts
}

fn read_rows(path: &Path, format: &str) -> Vec<Row> {
    let text = || std::fs::read_to_string(path).unwrap();
    match format {
        "csv" => text().lines().skip(1).map(|line| line.split(',').map(cell).collect()).collect(),
        "jsonl" => text().lines().map(json_row).collect(),
        _ => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
            let rows = |batch: RecordBatch| {
                let row = |row: usize| {
                    batch.columns().iter().map(|column| cell(&array_value_to_string(column, row).unwrap())).collect()
                };
                (0..batch.num_rows()).map(row).collect::<Vec<Row>>()
            };
            reader.flat_map(|batch| rows(batch.unwrap())).collect()
        }
    }
}

/// The values of a flat object in their order, which `serde_json` does not keep. No text in this data has a comma or an escape.
fn json_row(line: &str) -> Row {
    serde_json::from_str::<serde_json::Value>(line).unwrap();
    let fields = line.strip_prefix('{').and_then(|line| line.strip_suffix('}')).unwrap();
    let value = |field: &str| field.split_once(':').unwrap().1.trim().trim_matches('"').to_owned();
    fields.split(',').map(value).map(|value| if value == "null" { cell("") } else { cell(&value) }).collect()
}

/// A number as Rust writes it, all else as it is.
fn cell(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| number.to_string())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

#[test]
fn whenever_it_is_killed_each_row_is_there_once() {
    let flights = read_parquet(&root().join("guests/demo/data/flights.parquet"));
    let all: usize = flights.iter().map(RecordBatch::num_rows).sum();
    let kills = number("KILLS").unwrap_or(KILLS);
    let first = number("CRASH_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        since.as_secs() / 60 * 1000
    });
    println!("CRASH_SEED={first} KILLS={kills}");
    let (mut killed, mut stopped, mut seed) = (0, 0, first);
    let mut wanted: HashMap<usize, Wanted> = HashMap::new();
    while killed < kills {
        let rows = if seed == first { all } else { ROWS_OF_ROUND };
        let wanted = wanted.entry(rows).or_insert_with(|| Wanted::new(&flights, rows));
        if rows == all {
            assert_eq!((wanted.daily.len(), wanted.legs.len()), (5_442, 336_776));
        }
        let (mut round, folder) = (Round::new(seed), prepared(&flights, rows));
        let (died, ended) = round.run(folder.path(), KILLS_OF_ROUND.min(kills - killed));
        wanted.check(&round, folder.path());
        // Once it has come to its end, going on from there changes nothing.
        let again = Process::start(&round, folder.path(), true).until(None);
        assert!(matches!(again, Ended::Well), "{round}");
        wanted.check(&round, folder.path());
        println!("{round}: {rows} rows, killed {died} times, stopped {ended} times");
        (killed, stopped, seed) = (killed + died, stopped + ended, seed + 1);
    }
    println!("killed {killed} times, stopped {stopped} times, in {} jobs", seed - first);
}
