//! The program itself, as a process: how soon it puts out a row, and how much memory it takes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::figures::{Figure, WayName};
use crate::native::end;
use crate::pace::{Pace, median};
use crate::wasmill::cache_dir;
use crate::work::{WORK, Work, job_path};
use crate::{BenchError, built, process};

const PROGRAM: &str = "`wasmill run`";

/// Python instances beside the first one, over which their memory is taken.
const FURTHER_INSTANCES: usize = 8;

/// The default `bundle.size`.
const BUNDLE: usize = 1000;

/// `wasmill run` on a job of `jobs/`, with its output piped.
fn program(job: &str, set: &[(&str, String)]) -> Result<Child, BenchError> {
    let mut command = Command::new(built("target/release/wasmill", "make build")?);
    command.arg("run").arg("--quiet").arg(job_path(job)).env("WASMILL_CACHE_DIR", cache_dir());
    command.env("WASMILL_PYTHON_RUNNER", built("target/wasmill/python-runner.wasm", "make python-runner")?);
    for (key, value) in set {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(BenchError::worker(PROGRAM))
}

/// From the start of the process to the first row of its output, with a warm cache; beside it a worker process until its first answer.
///
/// # Errors
/// [`BenchError`].
pub fn start(pace: &Pace) -> Result<Vec<Figure>, BenchError> {
    // This one fills the cache.
    first_row()?;
    let mut job = Vec::new();
    let mut worker = Vec::new();
    let python_add = python_add()?;
    for _ in 0..pace.starts {
        job.push(first_row()?);
        let started = Instant::now();
        process::open(python_add, 1)?.run(1)?;
        worker.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let figure = |way, times: &mut Vec<f64>| Figure::new("start", way, BUNDLE, "median", median(times), "ms");
    Ok(vec![figure(WayName::Wasmill, &mut job), figure(WayName::Process, &mut worker)])
}

fn first_row() -> Result<f64, BenchError> {
    let started = Instant::now();
    let mut job = program("start", &[])?;
    let mut line = String::new();
    if let Some(output) = job.stdout.take() {
        BufReader::new(output).read_line(&mut line).map_err(BenchError::worker(PROGRAM))?;
    }
    let time = started.elapsed();
    end(&mut job);
    match line.starts_with('{') {
        true => Ok(time.as_secs_f64() * 1e3),
        false => Err(BenchError::Answer { what: PROGRAM, got: line, want: "a row" }),
    }
}

fn python_add() -> Result<&'static Work, BenchError> {
    let found = WORK.iter().find(|work| work.id == "python-add");
    found.ok_or_else(|| BenchError::Nothing { what: PROGRAM, problem: "there is no python-add".into() })
}

/// The whole small job, a further Python instance of it, and what every Python job grows by.
///
/// # Errors
/// [`BenchError`].
pub fn memory(pace: &Pace) -> Result<Vec<Figure>, BenchError> {
    let add = |stat: &str, way, value| Figure::new("memory", way, BUNDLE, stat, value, "MB");
    let one = small_job(1)?;
    let many = small_job(1 + FURTHER_INSTANCES)?;
    let worker = worker_memory()?;
    let mut figures = vec![
        add("job", WayName::Wasmill, one),
        add("job", WayName::Process, worker),
        add("instance", WayName::Wasmill, (many - one) / FURTHER_INSTANCES as f64),
        // Each instance is a process of its own there.
        add("instance", WayName::Process, worker),
    ];
    for work in WORK.iter().filter(|work| work.python()) {
        figures.push(add(&format!("growth {}", work.id), WayName::Wasmill, growth(work.id, pace.growth_rows)?));
    }
    Ok(figures)
}

/// The most that a job of python-add takes that runs for a second, with so many subtasks of each node.
fn small_job(parallelism: usize) -> Result<f64, BenchError> {
    let mut set = vec![("nodes.rows.rows", "100000".to_owned()), ("nodes.rows.rate", "100000".to_owned())];
    set.extend(["parallelism", "nodes.rows.splits"].map(|key| (key, parallelism.to_string())));
    let resident = watch(program("python-add", &set)?)?;
    Ok(resident.into_iter().fold(0.0, f64::max))
}

/// What it grows by in the second half of its time: in the first, it starts and its buffers find their sizes.
fn growth(job: &str, rows: u64) -> Result<f64, BenchError> {
    let resident = watch(program(job, &[("nodes.rows.rows", rows.to_string())])?)?;
    let part = |from: usize, to: usize| resident[resident.len() * from / 10..resident.len() * to / 10].to_vec();
    Ok(median(&mut part(9, 10)) - median(&mut part(4, 5)))
}

fn worker_memory() -> Result<f64, BenchError> {
    let mut worker = process::start(python_add()?, BUNDLE)?;
    crate::Way::run(&mut worker, 100_000)?;
    resident(worker.id()).ok_or_else(|| nothing("a worker"))
}

/// Memory of a process in MB every few milliseconds, until it has ended well.
fn watch(mut process: Child) -> Result<Vec<f64>, BenchError> {
    let mut seen = Vec::new();
    let status = loop {
        if let Some(status) = process.try_wait().map_err(BenchError::worker(PROGRAM))? {
            break status;
        }
        seen.extend(resident(process.id()));
        std::thread::sleep(Duration::from_millis(5));
    };
    if !status.success() {
        return Err(BenchError::Nothing { what: PROGRAM, problem: status.to_string() });
    }
    if seen.len() < 20 { Err(nothing(PROGRAM)) } else { Ok(seen) }
}

fn nothing(what: &'static str) -> BenchError {
    BenchError::Nothing { what, problem: "it was over too soon to see its memory".into() }
}

/// Resident MB, where a page that is mapped several times counts once: all instances of a module map the same image of its memory.
/// None once the process has ended.
fn resident(process: u32) -> Option<f64> {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = maps.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}
