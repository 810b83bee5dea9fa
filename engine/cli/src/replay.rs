//! `wasmill replay`: a recorded call again, in Wasm; natively it is the Python SDK's to run.

use std::path::Path;
use std::process::Command;

use arrow::array::{RecordBatch, TimestampMillisecondArray};
use wasmill_host::{Effects, Fault, LogLevel, Operation};
use wasmill_runtime::replay::{Failure, FailureOf, Recorded, ReplayError, Rerun};

use crate::args::ReplayArgs;
use crate::environment::environment;
use crate::progress::count;
use crate::report::Failure as Ended;
use crate::report::plain;
use crate::show;
use crate::udf::new::PYTHON_SDK;
use crate::udf::{not_started, python};

pub(crate) fn replay(args: &ReplayArgs) -> Result<(), Ended> {
    let recorded = Recorded::read(&args.dir).map_err(refused)?;
    if args.native || args.pdb || args.stop_at.is_some() {
        return native(args, &recorded);
    }
    let environment = environment()?;
    let shown = Shown { recorded: &recorded, rows_max: args.rows };
    let mut text = shown.call()?;
    let then = match &args.udf {
        None => None,
        Some(path) => Some((path, recorded.other_module(&environment, path).map_err(refused)?)),
    };
    let before = recorded.module(&environment).and_then(|(module, notes)| Ok((recorded.run(&module)?, notes)));
    let now = match then {
        None => {
            let (rerun, notes) = before.map_err(refused)?;
            notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
            text.push_str(&shown.outcome("run again", &rerun)?);
            rerun
        }
        Some((path, module)) => {
            let rerun = recorded.run(&module).map_err(refused)?;
            text.push_str(&shown.outcome(&format!("with {}", path.display()), &rerun)?);
            match before {
                Ok((before, _)) => text.push_str(&shown.difference(&before, &rerun)?),
                Err(error) => text.push_str(&format!("note: the recorded version cannot be run to compare: {error}\n")),
            }
            rerun
        }
    };
    crate::print(&plain(&text))?;
    match now.failed() {
        false => Ok(()),
        true if recorded.is_same_failure(&now) => Err(Ended::Tool("the call fails as it did".into())),
        true => Err(Ended::Tool("the call fails, and not as it did".into())),
    }
}

/// What was never possible is the command's fault; what the UDF does when it is opened is its own.
fn refused(error: ReplayError) -> Ended {
    match error {
        ReplayError::Host(error) => Ended::Host(error),
        other => Ended::Usage(other.to_string()),
    }
}

/// Tables and words for one record.
struct Shown<'a> {
    recorded: &'a Recorded,
    rows_max: usize,
}

impl Shown<'_> {
    /// What the call was.
    fn call(&self) -> Result<String, Ended> {
        let (record, input) = (&self.recorded.record, self.recorded.input());
        let operation = match input.operation {
            Operation::Process => "",
            Operation::Accumulate => " accumulate",
            Operation::Retract => " retract",
            Operation::Merge => " merge",
            Operation::Result => " result",
        };
        let from = record.first_row.as_ref().map_or(String::new(), |row| format!(", the first from {row}"));
        let mut text = format!(
            "job {}, node {}, subtask {}, bundle {}: {} {}.{}{operation}\n{} rows{from}; {} keys; watermark {}; processing time {}; seed {}\n\
             recorded {} by Wasmill {}\n{}\n",
            record.job,
            record.node,
            record.subtask,
            record.bundle,
            record.function.kind,
            record.udf.name,
            record.function.name,
            count(input.rows as u64),
            count(input.keys as u64),
            time(input.watermark),
            time(input.processing_time),
            input.seed,
            time(record.recorded_at_millis),
            record.wasmill,
            failed(&record.failure, self.counted()),
        );
        if record.udf.real_clock || record.udf.real_random {
            text.push_str("note: it is granted the real clock or randomness, and may do something else each time\n");
        }
        if input.keys > 0 {
            text.push_str(&self.table("keys and states", self.recorded.keys_and_states())?);
        }
        if input.rows > 0 {
            text.push_str(&self.table("rows", self.recorded.rows())?);
        }
        Ok(text)
    }

    /// What outputs and errors belong to.
    fn counted(&self) -> &'static str {
        if self.recorded.input().operation == Operation::Result { "key" } else { "row" }
    }

    /// What came of it this time.
    fn outcome(&self, title: &str, rerun: &Rerun) -> Result<String, Ended> {
        let end = match &rerun.outcome {
            Err(_) => "the call fails".to_owned(),
            Ok(effects) if effects.errors.is_empty() => "runs well".to_owned(),
            Ok(effects) => format!("{} of its rows fail", count(effects.errors.len() as u64)),
        };
        let mut text = format!("\n{title}: {end}\n");
        rerun.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
        for (level, line) in &rerun.log {
            let level = match level {
                LogLevel::Trace => "TRACE",
                LogLevel::Debug => "DEBUG",
                LogLevel::Info => "INFO",
                LogLevel::Warn => "WARN",
                LogLevel::Error => "ERROR",
            };
            text.push_str(&format!("{level}: {line}\n"));
        }
        match &rerun.outcome {
            Err(fault) => text.push_str(&fault_text(fault)),
            Ok(effects) => text.push_str(&self.effects(effects, rerun)?),
        }
        Ok(text)
    }

    fn effects(&self, effects: &Effects, rerun: &Rerun) -> Result<String, Ended> {
        let mut text = String::new();
        for error in effects.errors.iter().take(self.rows_max) {
            text.push_str(&format!(
                "{} {}: {}: {}\n{}",
                self.counted(),
                error.row,
                error.kind,
                error.message,
                below(&error.traceback)
            ));
        }
        text.push_str(&self.table("rows out", self.recorded.rows_out(effects, &rerun.loaded))?);
        if !rerun.loaded.states.is_empty() {
            text.push_str(&self.table(
                "keys whose states were written, as they are then",
                self.recorded.states_after(effects, &rerun.loaded),
            )?);
        }
        Ok(text)
    }

    /// Lines of what only one of two versions does.
    fn difference(&self, before: &Rerun, now: &Rerun) -> Result<String, Ended> {
        let (was, is) = (self.lines(before)?, self.lines(now)?);
        let mut lines: Vec<String> =
            was.iter().filter(|line| !is.contains(line)).map(|line| format!("- {line}")).collect();
        lines.extend(is.iter().filter(|line| !was.contains(line)).map(|line| format!("+ {line}")));
        if lines.is_empty() {
            return Ok("\nit does the same as the recorded version\n".into());
        }
        let more = lines.len().saturating_sub(self.rows_max * 2);
        lines.truncate(self.rows_max * 2);
        if more > 0 {
            lines.push(format!("and {more} lines more (--rows)"));
        }
        Ok(format!("\ndifferent from the recorded version (-) in this one (+):\n{}\n", lines.join("\n")))
    }

    /// Everything that a call did, a line each.
    fn lines(&self, rerun: &Rerun) -> Result<Vec<String>, Ended> {
        let effects = match &rerun.outcome {
            Err(fault) => return Ok(vec![format!("the call: {}: {}", fault.kind, fault.message)]),
            Ok(effects) => effects,
        };
        let mut lines: Vec<String> = effects
            .errors
            .iter()
            .map(|error| format!("{} {}: {}: {}", self.counted(), error.row, error.kind, error.message))
            .collect();
        let out = self.recorded.rows_out(effects, &rerun.loaded).map_err(refused)?;
        let after = self.recorded.states_after(effects, &rerun.loaded).map_err(refused)?;
        for (what, table) in [("row out of", &out), ("state of", &after)] {
            lines.extend(
                show::lines_of(table)
                    .map_err(ReplayError::Arrow)
                    .map_err(refused)?
                    .map(|line| format!("{what} {line}")),
            );
        }
        Ok(lines)
    }

    fn table(&self, title: &str, table: Result<RecordBatch, ReplayError>) -> Result<String, Ended> {
        let table = table.map_err(refused)?;
        let rows = table.num_rows();
        if rows == 0 {
            return Ok(format!("{title}: none\n"));
        }
        let more = rows.saturating_sub(self.rows_max);
        let shown = show::table_of(&[table.slice(0, rows - more)]).map_err(ReplayError::Arrow).map_err(refused)?;
        let more = if more > 0 { format!(" ({} more: --rows)", count(more as u64)) } else { String::new() };
        Ok(format!("{title}{more}\n{shown}\n"))
    }
}

fn failed(failure: &Failure, counted: &str) -> String {
    let row = failure.row.map_or(String::new(), |row| format!(" on {counted} {row}"));
    let from = failure.position.as_ref().map_or(String::new(), |position| format!(" ({position})"));
    let what = match failure.of {
        FailureOf::Call => "the call failed",
        FailureOf::Row => "raised",
    };
    format!("{what}{row}{from}: {}: {}", failure.kind, failure.message)
}

fn fault_text(fault: &Fault) -> String {
    let at = if fault.location.is_empty() { String::new() } else { format!(" (at {})", fault.location) };
    format!("{}: {}{at}\n{}", fault.kind, fault.message, below(&fault.backtrace))
}

fn below(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{}\n", text.trim_end()) }
}

fn time(millis: i64) -> String {
    match millis {
        i64::MIN => return "none".into(),
        i64::MAX => return "the end".into(),
        _ => {}
    }
    let time = TimestampMillisecondArray::from(vec![millis]);
    // Debug is ISO 8601 here, with a T.
    time.value_as_datetime(0).map_or_else(|| format!("{millis} ms"), |time| format!("{time:?}Z"))
}

/// Runs the SDK's own replay, of the version that this program brings along.
fn native(args: &ReplayArgs, recorded: &Recorded) -> Result<(), Ended> {
    if recorded.record.udf.source.is_empty() {
        let message = format!(
            "udf \"{}\" is a component, and is run natively by a test of its own crate: docs/replay.md, \"In a Rust debugger\"",
            recorded.record.udf.name
        );
        return Err(Ended::Usage(message));
    }
    let sdk = tempfile::tempdir().map_err(|error| Ended::because("cannot make a temporary folder", error))?;
    for (path, content) in PYTHON_SDK {
        let path = sdk.path().join(path);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(Ended::file("make", folder))?;
        std::fs::write(&path, content).map_err(Ended::file("write", &path))?;
    }
    let mut command = python_with(&sdk.path().join("vendor/python"))?;
    command.args(["-m", "wasmill.replay"]).arg(&args.dir).arg("--rows").arg(args.rows.to_string());
    if let Some(path) = &args.udf {
        command.arg("--udf").arg(path);
    }
    if args.pdb {
        command.arg("--pdb");
    }
    if let Some(row) = args.stop_at {
        command.arg("--stop-at").arg(row.to_string());
    }
    // Ctrl-C is for the debugger alone, in which a loop without end is stopped so.
    ctrlc::set_handler(|| {}).map_err(|error| Ended::because("cannot leave Ctrl-C to Python", error))?;
    let status =
        command.status().map_err(not_started("python3", "install Python 3.9 or later, or name it in PYTHON"))?;
    match status.code() {
        Some(0) => Ok(()),
        // It has said why.
        Some(2) => Err(Ended::Usage("the call cannot be run natively: see above".into())),
        _ => Err(Ended::Tool("the call fails natively: see above".into())),
    }
}

fn python_with(sdk: &Path) -> Result<Command, Ended> {
    let rest = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let paths = std::iter::once(sdk.to_owned()).chain(std::env::split_paths(&rest));
    let joined = std::env::join_paths(paths).map_err(|error| Ended::because("PYTHONPATH cannot be extended", error))?;
    let mut command = python();
    command.env("PYTHONPATH", joined);
    Ok(command)
}
