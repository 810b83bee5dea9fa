//! `make bench`: every piece of work, in every way, at every bundle size; then the tables.
//!
//! `QUICK=1` in the environment: short runs. Further arguments go to Criterion: `cargo bench -p wasmill-benches -- python-add`
//! measures only what has that in its name (`rust-add/wasmill/1 --exact`: only what is called that), and prints the tables without
//! writing them.

use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, measurement::WallTime};
use wasmill_benches::figures::{WAYS, WayName, read_criterion, to_json};
use wasmill_benches::report::{Setting, page};
use wasmill_benches::work::{BUNDLES, WORK, Work};
use wasmill_benches::{BenchError, Way, native, process, python, root, wasmill};
use wasmill_runtime::udf_file::Environment;

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long to measure.
struct Pace {
    quick: bool,
    /// Of one run.
    run: Duration,
    samples: usize,
}

impl Pace {
    fn new(quick: bool) -> Pace {
        match quick {
            true => Pace { quick, run: Duration::from_millis(100), samples: 10 },
            false => Pace { quick, run: Duration::from_millis(300), samples: 20 },
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), BenchError> {
    let pace = Pace::new(std::env::var("QUICK").is_ok_and(|quick| !matches!(quick.as_str(), "" | "0")));
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let started = SystemTime::now();
    let folder = root().join("target/criterion");
    let environment = wasmill::environment()?;
    let mut criterion = Criterion::default().output_directory(&folder).configure_from_args();
    for work in &WORK {
        measure(work, &pace, &environment, &wanted, &mut criterion)?;
    }
    criterion.final_summary();
    let figures = read_criterion(&folder, started)?;
    let page = page(&figures, &setting(pace.quick)?);
    println!("\n{page}");
    if figures.len() < WORK.len() * BUNDLES.len() * WAYS.len() {
        println!("Not everything was measured: docs/benchmarks.md and docs/benchmarks.json stay as they are.");
        return Ok(());
    }
    let docs = root().join("docs");
    let write = |name: &str, text: &str| {
        let path = docs.join(name);
        let written = std::fs::create_dir_all(&docs).and_then(|()| std::fs::write(&path, text));
        written.map_err(|source| BenchError::File { path, source })
    };
    write("benchmarks.md", &page)?;
    write("benchmarks.json", &to_json(&figures))
}

/// The columns of one row of a table are measured one right after the other: a busy machine hits all of them.
fn measure(
    work: &'static Work,
    pace: &Pace,
    environment: &Environment,
    wanted: &[String],
    criterion: &mut Criterion,
) -> Result<(), BenchError> {
    let mut group = criterion.benchmark_group(work.id);
    group.sampling_mode(SamplingMode::Flat).sample_size(pace.samples).warm_up_time(pace.run);
    // As long as the samples take: Criterion then runs the job once a sample, and warns where that takes longer.
    group.measurement_time(pace.run * pace.samples as u32);
    let exact = std::env::args().any(|argument| argument == "--exact");
    for bundle in BUNDLES {
        for way in WAYS {
            // Criterion filters too, but only once everything is set up.
            let name = format!("{}/{}/{bundle}", work.id, way.text());
            let fits = |part: &String| if exact { name == *part } else { name.contains(part) };
            if !wanted.is_empty() && !wanted.iter().any(fits) {
                continue;
            }
            let mut open = match way {
                WayName::Wasmill => wasmill::open(work, bundle, environment),
                WayName::Process => process::open(work, bundle)?,
                WayName::Native => native::open(work, bundle)?,
            };
            let rows = rows_for(open.as_mut(), bundle, pace.run)?;
            group.throughput(Throughput::Elements(rows));
            sample(&mut group, BenchmarkId::new(way.text(), bundle), open.as_mut(), rows)?;
        }
    }
    group.finish();
    Ok(())
}

/// How many rows take about `time`: whole batches, so that every way is cut alike.
fn rows_for(way: &mut dyn Way, bundle: usize, time: Duration) -> Result<u64, BenchError> {
    const STEP: u64 = 10_000;
    let mut rows = way.rows_min().max(if bundle < 100 { 1000 } else { STEP });
    loop {
        let took = way.run(rows)?;
        let factor = time.as_secs_f64() / took.as_secs_f64().max(1e-9);
        if factor < 4.0 {
            let rows = ((rows as f64 * factor) as u64).max(way.rows_min());
            return Ok(if rows > STEP { rows.next_multiple_of(STEP) } else { rows });
        }
        // A short run says little: the next is at most ten times as long.
        rows = (rows as f64 * factor.min(10.0)) as u64;
    }
}

/// Criterion knows no errors: after the first, runs are over at once and it comes out here.
fn sample(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    way: &mut dyn Way,
    rows: u64,
) -> Result<(), BenchError> {
    const OVER: Duration = Duration::from_nanos(1);
    let mut failed = None;
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|runs| {
            let mut time = Duration::ZERO;
            for _ in 0..runs {
                if failed.is_some() {
                    return OVER;
                }
                match way.run(rows) {
                    Ok(took) => time += took,
                    Err(error) => failed = Some(error),
                }
            }
            time
        });
    });
    failed.map_or(Ok(()), Err)
}

fn setting(quick: bool) -> Result<Setting, BenchError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model.trim());
    let what = "the version of CPython";
    let python = python()?;
    let version = Command::new(&python).arg("--version").output();
    let version = version.map_err(|source| BenchError::Worker { what, source })?;
    let python = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    Ok(Setting { machine: format!("{model}, {cores} cores"), python, quick })
}
