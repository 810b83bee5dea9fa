//! `wasmill run` and `wasmill check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmill_connectors::checkpoint_storage;
use wasmill_host::{LogLevel, data_type};
use wasmill_runtime::checkpoint::manifest::{Manifest, SnapshotKind};
use wasmill_runtime::checkpoint::restore::Restored;
use wasmill_runtime::checkpoint::storage::CheckpointStorage;
use wasmill_runtime::control::{self, Controlled};
use wasmill_runtime::error::JobError;
use wasmill_runtime::graph::JobGraph;
use wasmill_runtime::job::{self, Clock, LogRecord, RunOptions, StopHandle, Summary, SystemClock};
use wasmill_runtime::job_file;
use wasmill_runtime::replay::Failures;
use wasmill_runtime::udf_file::Environment;
use wasmill_web::discovery::{Announced, Announcement, Folders};
use wasmill_web::{Listener, Server};

use crate::args::{Control, JobArgs, Level, RunArgs};
use crate::checkpoints;
use crate::environment;
use crate::progress::{Progress, count, rate};
use crate::report::{Failure, plain};

/// How often it is looked whether the job has ended: short enough that a small job's time is its own.
const POLL: Duration = Duration::from_millis(20);

/// Exit code of a program that was interrupted, as shells tell it.
const INTERRUPTED: i32 = 130;

pub(crate) fn check(args: &JobArgs) -> Result<(), Failure> {
    let graph = graph(args, &environment::environment()?)?;
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

/// The folder of the job file, in which relative paths start.
fn base_of(args: &JobArgs) -> PathBuf {
    args.job.parent().filter(|base| !base.as_os_str().is_empty()).unwrap_or(Path::new(".")).into()
}

/// Reads and validates.
fn graph(args: &JobArgs, environment: &Environment) -> Result<JobGraph, Failure> {
    let text = std::fs::read_to_string(&args.job).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Usage(format!("there is no job file {}", args.job.display())),
        std::io::ErrorKind::InvalidData => Failure::Usage(format!("{} is no text in UTF-8", args.job.display())),
        _ => Failure::file("read", &args.job)(error),
    })?;
    let base = base_of(args);
    let invalid = |problems| Failure::Invalid { file: args.job.clone(), problems };
    job_file::load(&text, &base, &args.set, environment, &environment::connectors()).map_err(invalid)
}

pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let environment = environment::environment()?;
    let graph = graph(&args.job, &environment)?;
    let (checkpoints, from) = places(args, &graph)?;
    let beginning = beginning(args, checkpoints.as_ref(), from.as_ref());
    let control_places = control_places(args, &graph, checkpoints.clone());
    let progress = Arc::new(Progress::new(&graph, args.quiet));
    let options = RunOptions {
        checkpoints,
        from,
        allow_non_restored: args.allow_non_restored,
        failures: failures(&args.job, &graph),
        ..RunOptions::new(log(Arc::clone(&progress), args.log_level))
    };
    let listener = listen(args, &progress)?;
    if let Some(beginning) = beginning.filter(|_| !args.quiet) {
        progress.line(&beginning);
    }
    let job = job::start(&graph, options).map_err(|error| Failure::Job(Box::new(error)))?;
    let control = Controlled::new(&graph, &job, control_places, environment);
    let reachable = listener.and_then(|listener| reachable(listener, args, &graph, control, &progress));
    let interrupted = stop_on_signal(job.stop_handle(), Arc::clone(&progress))?;
    while !job.is_finished() {
        progress.show(job.metrics());
        std::thread::sleep(POLL);
    }
    let outcome = job.wait();
    drop(reachable);
    progress.finish();
    let interrupted = interrupted.load(Ordering::Relaxed);
    match outcome {
        Ok(summary) => {
            if !args.quiet {
                eprint!("{}", summary_text(&graph, &summary));
            }
            let goes_on = summary.checkpoint.map_or_else(String::new, |checkpoint| {
                format!(", and the job can go on from checkpoint {checkpoint} (--resume)")
            });
            match (summary.stopped, interrupted) {
                (true, true) => {
                    Err(Failure::Interrupted(format!("stopped by a signal; what was read has been committed{goes_on}")))
                }
                (true, false) if !args.quiet => {
                    eprintln!("stopped by a command; what was read has been committed{goes_on}");
                    Ok(())
                }
                _ => Ok(()),
            }
        }
        Err(JobError::Stopped) => {
            let by = if interrupted { "a signal" } else { "a command" };
            let committed = match graph.config().checkpoint.dir {
                None => "nothing was committed",
                Some(_) => "nothing since its last checkpoint was committed, from which --resume goes on",
            };
            Err(Failure::Interrupted(format!("stopped by {by} before the end; {committed}")))
        }
        Err(error) => Err(Failure::Job(Box::new(error))),
    }
}

/// Where calls that end the job are recorded.
fn failures(args: &JobArgs, graph: &JobGraph) -> Option<Failures> {
    let config = &graph.config().failures;
    let dir = config.dir.as_ref().map(|dir| base_of(args).join(dir)).or_else(environment::failures_dir);
    Some(Failures::new(dir?, config.records_max)).filter(|_| config.records_max > 0)
}

/// Where the job begins, if that is worth a line.
fn beginning(
    args: &RunArgs,
    checkpoints: Option<&Arc<dyn CheckpointStorage>>,
    from: Option<&Restored>,
) -> Option<String> {
    match from.map(|from| &*from.manifest) {
        Some(manifest) if manifest.finished => Some(format!(
            "the job came to its end with checkpoint {}: nothing is left to do but to commit what that run could not",
            manifest.checkpoint
        )),
        Some(manifest) => Some(format!("going on from {}", of_kind(manifest))),
        None if args.resume => {
            let place = checkpoints.map(|storage| storage.location(None)).unwrap_or_default();
            Some(format!("no checkpoint is in {place} yet: beginning at the beginning"))
        }
        None => None,
    }
}

/// As a person would call it.
fn of_kind(manifest: &Manifest) -> String {
    let kind = match manifest.kind {
        SnapshotKind::Checkpoint => "checkpoint",
        SnapshotKind::Savepoint => "savepoint",
    };
    format!("{kind} {}", manifest.checkpoint)
}

/// What lets other commands reach the job, for as long as it is kept. The first goes first: nobody is led where nobody listens.
type Reachable = (Announced, Server);

/// Listens where the arguments say. A job that cannot be reached runs all the same, unless it is to be reached at a certain port.
fn listen(args: &RunArgs, progress: &Progress) -> Result<Option<Listener>, Failure> {
    let Control::At(address) = args.control else { return Ok(None) };
    match Listener::bind(address).map_err(|error| Failure::Control(Box::new(error))) {
        Ok(listener) => Ok(Some(listener)),
        Err(failure) if address.port() != 0 => Err(failure),
        Err(failure) => {
            warn(progress, &failure);
            Ok(None)
        }
    }
}

/// Answers commands, and says where.
fn reachable(
    listener: Listener,
    args: &RunArgs,
    graph: &JobGraph,
    control: Controlled,
    progress: &Progress,
) -> Option<Reachable> {
    let serve = || {
        let server = listener.serve(Arc::new(control)).map_err(|error| Failure::Control(Box::new(error)))?;
        let announcement = Announcement {
            job: graph.name().to_owned(),
            pid: std::process::id(),
            address: server.address(),
            token: server.token().clone(),
            started_at_millis: SystemClock.processing_time_ms(),
            job_file: std::path::absolute(&args.job.job).map_err(Failure::file("find", &args.job.job))?,
        };
        let announced =
            Folders::from_environment().announce(&announcement).map_err(|error| Failure::Control(Box::new(error)))?;
        Ok((announced, server))
    };
    serve().inspect_err(|failure| warn(progress, failure)).ok()
}

fn warn(progress: &Progress, failure: &Failure) {
    let text = failure.text();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    progress.line(&plain(&format!("warning: no command will reach this job (--control off: none shall): {text}")));
}

/// Where a job that keeps `checkpoints` keeps what commands ask it for.
fn control_places(
    args: &RunArgs,
    graph: &JobGraph,
    checkpoints: Option<Arc<dyn CheckpointStorage>>,
) -> Option<control::Places> {
    let config = &graph.config().checkpoint;
    let dir = config.dir.as_ref()?;
    let savepoints =
        config.savepoint_dir.clone().unwrap_or_else(|| format!("{}/savepoints", dir.trim_end_matches('/')));
    let base = base_of(&args.job);
    let open = Box::new(move |place: &str| checkpoint_storage(&base, place));
    Some(control::Places { checkpoints: checkpoints?, savepoints, open })
}

/// Where the job keeps checkpoints, and what it goes on from.
type Places = (Option<Arc<dyn CheckpointStorage>>, Option<Restored>);

fn places(args: &RunArgs, graph: &JobGraph) -> Result<Places, Failure> {
    let config = &graph.config().checkpoint;
    let base = base_of(&args.job);
    let checkpoints = config.dir.as_deref().map(|dir| checkpoints::open(dir, &base)).transpose()?;
    let from = match (&args.from, args.resume, &checkpoints) {
        (Some(place), ..) => Some(checkpoints::find(place, args.checkpoint, "go on from")?),
        (None, true, Some(storage)) => Restored::newest(storage)
            .map_err(|error| Failure::because(format!("cannot go on from {}", storage.location(None)), error))?,
        (None, true, None) => {
            let message = "--resume: the job keeps no checkpoints: set execution.checkpointing.dir, or say where they are with --from";
            return Err(Failure::Usage(message.into()));
        }
        (None, false, _) => None,
    };
    Ok((checkpoints, from))
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
