//! `wasmill run` and `wasmill check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmill_host::{LogLevel, data_type};
use wasmill_runtime::error::JobError;
use wasmill_runtime::graph::JobGraph;
use wasmill_runtime::job::{self, LogRecord, RunOptions, StopHandle, Summary, SystemClock};
use wasmill_runtime::job_file;

use crate::args::{JobArgs, Level, RunArgs};
use crate::environment;
use crate::progress::{Progress, count, rate};
use crate::report::{Failure, plain};

/// How often it is looked whether the job has ended: short enough that a small job's time is its own.
const POLL: Duration = Duration::from_millis(20);

/// Exit code of a program that was interrupted, as shells tell it.
const INTERRUPTED: i32 = 130;

pub(crate) fn check(args: &JobArgs) -> Result<(), Failure> {
    let graph = graph(args)?;
    let rows: Vec<Vec<String>> = graph
        .nodes()
        .iter()
        .map(|node| {
            let columns = node.schema().fields().iter().map(|field| {
                let notation = data_type::display(field.data_type(), field.is_nullable());
                format!("{}: {}", field.name(), notation.unwrap_or_else(|_| field.data_type().to_string()))
            });
            let columns = columns.collect::<Vec<_>>().join(", ");
            vec![node.name().to_owned(), node.describe(), node.parallelism().to_string(), columns]
        })
        .collect();
    let table = crate::table(&["NODE", "IS", "SUBTASKS", "COLUMNS"], &rows);
    crate::print(&format!("{} is valid: job {}, {} nodes\n\n{table}", args.job.display(), graph.name(), rows.len()))
}

/// Reads and validates.
fn graph(args: &JobArgs) -> Result<JobGraph, Failure> {
    let text = std::fs::read_to_string(&args.job).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Usage(format!("there is no job file {}", args.job.display())),
        std::io::ErrorKind::InvalidData => Failure::Usage(format!("{} is no text in UTF-8", args.job.display())),
        _ => Failure::file("read", &args.job)(error),
    })?;
    let base: PathBuf = args.job.parent().filter(|base| !base.as_os_str().is_empty()).unwrap_or(Path::new(".")).into();
    let invalid = |problems| Failure::Invalid { file: args.job.clone(), problems };
    let (environment, connectors) = (environment::environment()?, environment::connectors());
    job_file::load(&text, &base, &args.set, &environment, &connectors).map_err(invalid)
}

pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let graph = graph(&args.job)?;
    let progress = Arc::new(Progress::new(&graph, args.quiet));
    let options = RunOptions { log: log(Arc::clone(&progress), args.log_level), clock: Arc::new(SystemClock) };
    let job = job::start(&graph, options).map_err(|error| Failure::Job(Box::new(error)))?;
    let interrupted = stop_on_signal(job.stop_handle(), Arc::clone(&progress))?;
    while !job.is_finished() {
        progress.show(job.metrics());
        std::thread::sleep(POLL);
    }
    let outcome = job.wait();
    progress.finish();
    let interrupted = interrupted.load(Ordering::Relaxed);
    match outcome {
        Ok(summary) => {
            if !args.quiet {
                eprint!("{}", summary_text(&graph, &summary));
            }
            match interrupted && summary.stopped {
                true => Err(Failure::Interrupted("stopped by a signal; what was read has been committed".into())),
                false => Ok(()),
            }
        }
        Err(JobError::Stopped) if interrupted => {
            Err(Failure::Interrupted("stopped by a signal before the end; nothing was committed".into()))
        }
        Err(error) => Err(Failure::Job(Box::new(error))),
    }
}

/// The first signal stops the job, the second the program.
fn stop_on_signal(stop: StopHandle, progress: Arc<Progress>) -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&interrupted);
    let handler = move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        progress.line("stopping: rows on their way are finished; once more to leave at once");
        stop.stop();
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::because("cannot watch for Ctrl-C", error))?;
    Ok(interrupted)
}

type Log = dyn Fn(&LogRecord<'_>) + Send + Sync;

fn log(progress: Arc<Progress>, least: Level) -> Arc<Log> {
    let least = match least {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
    };
    Arc::new(move |record| {
        if record.level >= least {
            let level = match record.level {
                LogLevel::Trace => "TRACE",
                LogLevel::Debug => "DEBUG",
                LogLevel::Info => "INFO ",
                LogLevel::Warn => "WARN ",
                LogLevel::Error => "ERROR",
            };
            let LogRecord { job, node, subtask, udf, message, .. } = record;
            // Each line says where it is from, so that none of them can pass for another's.
            for line in message.lines() {
                progress.line(&plain(&format!("{level} {job}/{node}/{subtask} {udf}: {line}")));
            }
        }
    })
}

fn summary_text(graph: &JobGraph, summary: &Summary) -> String {
    let seconds = summary.duration.as_secs_f64();
    let mut rows = Vec::new();
    let (mut read, mut errors, mut late) = (0, 0, 0);
    for node in graph.nodes() {
        let Some(metrics) = summary.metrics.node(node.name()) else { continue };
        errors += metrics.row_errors.get();
        late += metrics.late_rows.get();
        let place = summary.outputs.iter().find(|(name, _)| name == node.name());
        let (what, done, place) = match (node.inputs().is_empty(), place) {
            (true, _) => ("read", metrics.rows_out.get(), ""),
            (false, Some((_, place))) => ("written", metrics.rows_in.get(), place.as_str()),
            (false, None) => continue,
        };
        if what == "read" {
            read += done;
        }
        rows.push(vec![
            node.name().to_owned(),
            what.into(),
            format!("{:>14}", count(done)),
            format!("{:>14}", rate(done, seconds)),
            place.into(),
        ]);
    }
    for (name, place) in summary.outputs.iter().filter(|(name, _)| summary.metrics.node(name).is_none()) {
        rows.push(vec![name.clone(), "written".into(), String::new(), String::new(), place.clone()]);
    }
    let table = crate::table(&["NODE", "", &format!("{:>14}", "ROWS"), &format!("{:>14}", "ROWS/S"), "TO"], &rows);
    let trouble = format!("{} row errors, {} late rows", count(errors), count(late));
    format!(
        "{table}{}: {} rows in {seconds:.2} s, {} rows/s; {trouble}\n",
        graph.name(),
        count(read),
        rate(read, seconds)
    )
}
