//! `make bench`: every piece of work, in every way, at every bundle size; then the tables.
//!
//! `QUICK=1` in the environment: short runs. Further arguments go to Criterion: `cargo bench --workspace --bench throughput -- python-add`
//! measures only what has that in its name (`rust-add/wasmill/1 --exact`: only what is called that), and prints the tables without
//! writing them.

use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, measurement::WallTime};
use wasmill_benches::figures::{Figure, WAYS, read_criterion, to_json};
use wasmill_benches::latency::LATENCIES;
use wasmill_benches::pace::Pace;
use wasmill_benches::plots::{PLOTS, draw};
use wasmill_benches::report::{Setting, page};
use wasmill_benches::same::check;
use wasmill_benches::scaling::SCALING;
use wasmill_benches::work::{WORK, Work};
use wasmill_benches::{BenchError, Way, checkpoints, latency, open, program, python, root, scaling, values, wasmill};
use wasmill_runtime::udf_file::Environment;

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For intervals that nothing here uses: a few are enough.
const RESAMPLES: usize = 2000;

/// Of the bundle sizes, the one that says least.
const QUICK_LEAVES_OUT: usize = 10;

/// What the arguments choose.
struct Wanted {
    parts: Vec<String>,
    exact: bool,
}

impl Wanted {
    fn fits(&self, name: &str) -> bool {
        let fits = |part: &String| if self.exact { name == *part } else { name.contains(part.as_str()) };
        self.parts.is_empty() || self.parts.iter().any(fits)
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
    let parts = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = Wanted { parts, exact: std::env::args().any(|argument| argument == "--exact") };
    let started = SystemTime::now();
    let folder = root().join("target/criterion");
    let environment = wasmill::environment()?;
    let mut criterion = Criterion::default().output_directory(&folder).configure_from_args();
    for work in &WORK {
        measure(work, &pace, &environment, &wanted, &mut criterion)?;
    }
    criterion.final_summary();
    let mut figures = read_criterion(&folder, started)?;
    figures.extend(singly(&pace, &environment, &wanted)?);
    let page = page(&figures, &setting(pace.quick)?);
    println!("\n{page}");
    if !wanted.parts.is_empty() {
        println!("Not everything was measured: what is in docs stays as it is.");
        return Ok(());
    }
    let docs = root().join("docs");
    let write = |name: &str, text: &str| {
        let path = docs.join(name);
        let written = std::fs::create_dir_all(&docs).and_then(|()| std::fs::write(&path, text));
        written.map_err(|source| BenchError::File { path, source })
    };
    for (name, title, prefix) in PLOTS {
        draw(&docs.join(name), title, prefix, &figures)?;
    }
    write("benchmarks.md", &page)?;
    write("benchmarks.json", &to_json(&figures))
}

/// What is no pace of one job, and so nothing for Criterion.
fn singly(pace: &Pace, environment: &Environment, wanted: &Wanted) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for (id, work) in LATENCIES.into_iter().filter(|(id, _)| wanted.fits(id)) {
        figures.extend(latency::measure(id, work, pace, environment)?);
    }
    if wanted.fits("start") {
        figures.extend(program::start(pace)?);
    }
    if wanted.fits("memory") {
        figures.extend(program::memory(pace)?);
    }
    figures.extend(checkpoints::measure(pace, environment, |id| wanted.fits(id))?);
    if wanted.fits(values::ID) {
        figures.extend(values::measure(pace, environment)?);
    }
    for id in SCALING.into_iter().filter(|_| wanted.fits("scaling")) {
        figures.extend(scaling::measure(id, pace, environment)?);
    }
    Ok(figures)
}

/// The columns of one row of a table are measured one right after the other: a busy machine hits all of them.
fn measure(
    work: &'static Work,
    pace: &Pace,
    environment: &Environment,
    wanted: &Wanted,
    criterion: &mut Criterion,
) -> Result<(), BenchError> {
    let mut group = criterion.benchmark_group(work.name());
    group.sampling_mode(SamplingMode::Flat).nresamples(RESAMPLES).sample_size(pace.samples).warm_up_time(pace.run);
    // As long as the samples take: Criterion then runs the job once a sample, and warns where that takes longer.
    group.measurement_time(pace.run * pace.samples as u32);
    let mut checked = false;
    for &bundle in work.bundles.iter().filter(|bundle| !(pace.quick && **bundle == QUICK_LEAVES_OUT)) {
        for way in WAYS {
            // Criterion filters too, but only once everything is set up.
            if !wanted.fits(&format!("{}/{}/{bundle}", work.name(), way.text())) {
                continue;
            }
            if !checked {
                checked = true;
                check(work, bundle.max(100), environment)?;
            }
            let mut open = open(work, way, bundle, environment)?;
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
    let step = bundle.max(1000) as u64;
    let mut rows = way.rows_min().max(step);
    loop {
        let took = way.run(rows)?;
        let factor = time.as_secs_f64() / took.as_secs_f64().max(1e-9);
        if factor < 4.0 {
            return Ok(((rows as f64 * factor) as u64).max(way.rows_min()).next_multiple_of(step));
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
