//! Runs an attack as a job, holds it to its time and memory, and runs a good job beside it that may not notice.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use wasmill_runtime::job_file;
use wasmill_runtime::udf_file::Environment;
use wasmill_tests::{Line, built, environment, root, run_in};

/// An attack takes this long at most, unless it says otherwise: limits are 200 ms, all else is for a busy machine.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Memory that the process may take on while an attack runs: this, for the good job and the log, and so many times the guest's limit,
/// for what the host copies from it and for the instance that comes after it.
const MEMORY_MIB_MAX: usize = 64;
const MEMORY_TIMES_MAX: usize = 3;
/// Longest text that may come of an attack.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// A job with one hostile function, as data.
pub struct Attack {
    path: String,
    program: Option<String>,
    settings: Vec<String>,
    node: String,
    rows: Vec<(i64, String)>,
    sink: &'static str,
    tail: &'static str,
    time_max: Duration,
    /// Memory that the guest may have.
    memory_mib: usize,
}

/// What came of it.
pub struct Ran {
    pub outcome: Outcome,
    pub log: Vec<Line>,
    pub folder: TempDir,
}

#[derive(Debug)]
pub enum Outcome {
    /// It was refused before it ran.
    Invalid(String),
    Failed(String),
    /// Rows of the sink.
    Ended(Vec<Value>),
}

impl Attack {
    fn new(path: String, node: &str) -> Attack {
        Attack {
            path,
            program: None,
            settings: vec!["timeout: 200ms".into(), "load.timeout: 3s".into()],
            node: node.into(),
            rows: vec![(1, String::new())],
            sink: "jsonl",
            tail: "",
            time_max: TIME_MAX,
            memory_mib: 0,
        }
    }

    /// A function of `guests/hostile`, with 16 MiB of memory.
    pub fn rust(node: &str) -> Attack {
        Attack::new(built("guests/target/wasm32-wasip2/release/hostile.wasm").display().to_string(), node)
            .set("memory.max: 16MiB")
    }

    /// A function of `guests/hostile/hostile.py`, with 64 MiB of memory.
    pub fn python(node: &str) -> Attack {
        Attack::new(root().join("guests/hostile/hostile.py").display().to_string(), node).set("memory.max: 64MiB")
    }

    /// A function of a program of the test's own.
    pub fn program(text: &str, node: &str) -> Attack {
        let attack = Attack::new("attack.py".into(), node).set("memory.max: 64MiB");
        Attack { program: Some(text.into()), ..attack }
    }

    /// A setting of the UDF; the last one of a name counts.
    pub fn set(mut self, setting: &str) -> Attack {
        if let Some(mebibytes) = setting.strip_prefix("memory.max: ").and_then(|text| text.strip_suffix("MiB")) {
            self.memory_mib = mebibytes.parse().unwrap();
        }
        let key = setting.split(':').next().unwrap_or_default();
        self.settings.retain(|old| !old.starts_with(&format!("{key}:")));
        self.settings.push(setting.into());
        self
    }

    /// Another sink than `jsonl`; its rows are not looked at.
    pub fn sink(self, sink: &'static str) -> Attack {
        Attack { sink, ..self }
    }

    /// Column `x`; `s` is empty.
    pub fn numbers(mut self, numbers: impl IntoIterator<Item = i64>) -> Attack {
        self.rows = numbers.into_iter().map(|x| (x, String::new())).collect();
        self
    }

    /// Column `s`; `x` is 1.
    pub fn texts<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Attack {
        self.rows = texts.into_iter().map(|text| (1, text.to_owned())).collect();
        self
    }

    /// More lines of the job file.
    pub fn tail(self, tail: &'static str) -> Attack {
        Attack { tail, ..self }
    }

    pub fn within(self, time_max: Duration) -> Attack {
        Attack { time_max, ..self }
    }

    /// The job ends, with these texts in its error.
    pub fn fails(self, texts: &[&str]) -> Ran {
        let ran = self.run();
        let Outcome::Failed(error) = &ran.outcome else { panic!("it did not fail: {:?}", ran.outcome) };
        for text in texts {
            assert!(error.contains(text), "{text:?} is not in\n{error}");
        }
        ran
    }

    /// The job does not begin, with these texts in its problems.
    pub fn invalid(self, texts: &[&str]) -> Ran {
        let ran = self.run();
        let Outcome::Invalid(error) = &ran.outcome else { panic!("it was not refused: {:?}", ran.outcome) };
        for text in texts {
            assert!(error.contains(text), "{text:?} is not in\n{error}");
        }
        ran
    }

    /// The job ends well; column `z` of its sink.
    pub fn ends(self) -> (Ran, Vec<Value>) {
        let ran = self.run();
        let Outcome::Ended(rows) = &ran.outcome else { panic!("it did not end well: {:?}", ran.outcome) };
        let column = rows.iter().map(|row| row["z"].clone()).collect();
        (ran, column)
    }

    fn text(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(|(x, s)| json!([x, s])).collect();
        format!(
            "name: hostile\n{}udfs:\n  u: {{ path: {}, {} }}\npipeline:\n  - rows: {{ source: collection, schema: {{ x: int64, s: utf8 }}, rows: {} }}\n  - n: {{ from: rows, {} }}\n  - out: {{ from: n, {} }}\n",
            self.tail,
            json!(self.path),
            self.settings.join(", "),
            Value::from(rows),
            self.node,
            if self.sink == "print" { "sink: print".into() } else { format!("sink: {}, path: out", self.sink) },
        )
    }

    /// Runs it, and asserts what holds of every attack.
    pub fn run(self) -> Ran {
        warm();
        let _alone = alone();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret.txt"), "secret").unwrap();
        std::fs::write(folder.path().join("granted.txt"), "granted").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("secret.txt", folder.path().join("link")).unwrap();
        if let Some(program) = &self.program {
            std::fs::write(folder.path().join("attack.py"), program).unwrap();
        }
        let before = files(folder.path());
        let beside = Beside::start();
        let memory = Memory::watch();
        let (outcome, log) = self.within_time(folder.path());
        let grown = memory.grown_mib();
        beside.end();

        assert!(
            grown <= MEMORY_MIB_MAX + MEMORY_TIMES_MAX * self.memory_mib,
            "{}: the process took on {grown} MiB",
            self.node
        );
        let text = match &outcome {
            Outcome::Invalid(text) | Outcome::Failed(text) => text,
            Outcome::Ended(_) => "",
        };
        assert!(text.len() <= TEXT_BYTES_MAX, "{}: a message of {} bytes: {}", self.node, text.len(), &text[..500]);
        assert!(!text.contains("please report"), "{}: a defect of ours: {text}", self.node);
        let mut after = files(folder.path());
        after.retain(|(name, _)| !name.starts_with("out") && !name.starts_with("dead"));
        assert_eq!(after, before, "{}: it has changed files", self.node);
        Ran { outcome, log, folder }
    }

    /// In a thread of its own: a test must end even where the engine does not hold what it promises.
    fn within_time(&self, folder: &Path) -> (Outcome, Vec<Line>) {
        let (text, folder) = (self.text(), folder.to_owned());
        let (done, ended) = channel();
        std::thread::spawn(move || done.send(outcome(&text, &[], &folder)));
        match ended.recv_timeout(self.time_max) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => panic!("{}: it still runs after {:?}", self.node, self.time_max),
            Err(RecvTimeoutError::Disconnected) => panic!("{}: the engine panicked", self.node),
        }
    }
}

fn outcome(text: &str, set: &[(String, String)], folder: &Path) -> (Outcome, Vec<Line>) {
    let problems = |problems: Vec<wasmill_runtime::error::Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let spec = match job_file::read(text, folder, set) {
        Ok(spec) => spec,
        Err(found) => panic!("the job of the test is wrong: {}\n{text}", problems(found)),
    };
    match run_in(pinned(), &spec) {
        Err(found) => (Outcome::Invalid(problems(found)), Vec::new()),
        Ok(run) => match run.outcome {
            Err(error) => (Outcome::Failed(error.to_string()), run.log),
            Ok(_) => (Outcome::Ended(rows(&folder.join("out"))), run.log),
        },
    }
}

/// With the Python runner as it was when the tests began: one that is built meanwhile would be compiled on an attack's time.
fn pinned() -> &'static Environment {
    static PINNED: OnceLock<Environment> = OnceLock::new();
    let pin = || {
        let environment = environment();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let copy = tempfile::NamedTempFile::new_in(folder).unwrap();
        std::fs::copy(environment.python_runner.as_ref().unwrap(), copy.path()).unwrap();
        let runner = folder.join("hostile-python-runner.wasm");
        copy.persist(&runner).unwrap();
        Environment { python_runner: Some(runner), ..environment }
    };
    PINNED.get_or_init(pin)
}

/// The lines of the parts of a JSON Lines sink.
fn rows(folder: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect();
    files.sort();
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    texts.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Names and contents.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap_or_default())
        })
        .collect();
    files.sort();
    files
}

/// One attack at a time: what the process takes on is then that one's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compiles the guests, which is not what an attack is held to.
fn warm() {
    static WARM: Once = Once::new();
    WARM.call_once(|| {
        for attack in [Attack::rust("with: { z: u.clocks(s) }"), Attack::python("with: { z: u.clocks(s) }")] {
            let folder = tempfile::tempdir().unwrap();
            let attack = attack.set("load.timeout: 60s").set("timeout: 60s");
            let (outcome, _) = outcome(&attack.text(), &[], folder.path());
            assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
        }
        Beside::round();
    });
}

/// A good job that runs again and again while others attack; each time its result must be right.
struct Beside {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const GOOD_ROWS: i64 = 2000;

impl Beside {
    fn start() -> Beside {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                Beside::round();
            }
            // One that begins after the attack.
            Beside::round();
        });
        Beside { stop, thread: Some(thread) }
    }

    fn round() {
        let folder = tempfile::tempdir().unwrap();
        let guest = built("guests/target/wasm32-wasip2/release/reference.wasm");
        let numbers: Vec<Value> = (0..GOOD_ROWS).map(|x| json!([x, x % 7])).collect();
        let text = format!(
            "name: good\nudfs:\n  g: {{ path: {} }}\npipeline:\n  - rows: {{ source: collection, schema: {{ x: int64, k: int64 }}, rows: {} }}\n  - n: {{ from: rows, with: {{ z: g.add_one(x) }} }}\n  - sums: {{ from: n, key: [k], process: g.TrapsHalfway(z) }}\n  - out: {{ from: sums, sink: jsonl, path: out }}\n",
            json!(guest),
            Value::from(numbers),
        );
        let (outcome, _) = outcome(&text, &[("bundle.size".into(), "100".into())], folder.path());
        let Outcome::Ended(rows) = outcome else { panic!("the good job noticed: {outcome:?}") };
        let mut sums = [0; 7];
        let expected = (0..GOOD_ROWS).map(|x| {
            let sum = &mut sums[(x % 7) as usize];
            *sum += x + 1;
            *sum
        });
        let got = rows.iter().map(|row| row["TrapsHalfway"].as_i64().unwrap());
        assert!(got.eq(expected), "the good job noticed: its result is wrong");
    }

    fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Looks at how much memory the process has, many times a second.
struct Memory {
    before: usize,
    most: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Memory {
    fn watch() -> Memory {
        let (most, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stopped) = (Arc::clone(&most), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(resident_bytes(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Memory { before: resident_bytes(), most, stop }
    }

    fn grown_mib(&self) -> usize {
        self.most.load(Ordering::Relaxed).saturating_sub(self.before) >> 20
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Memory of this process, in bytes; 0 where the system does not say.
pub fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()));
    pages.unwrap_or(0) * 4096
}
