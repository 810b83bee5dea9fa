//! The command line: reads arguments, runs what the libraries do, tells a person what came of it.

mod args;
mod checkpoints;
mod control;
mod environment;
mod progress;
mod replay;
mod report;
mod run;
mod show;
mod state;
mod udf;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use wasmill_runtime::config::KEYS;

use args::{Cli, Command, UdfCommand};
use report::{Failure, plain};

/// Each call makes and drops some twenty small pieces of memory, often on another thread: the system's allocator spends a fifth of
/// the time of a one-row call on them, this one a third of that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", plain(&failure.text()));
            failure.exit_code()
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => run::check(&args),
        Command::Jobs => print(&control::jobs()?),
        Command::Checkpoint(job) => control::checkpoint(&job.name),
        Command::Savepoint { job, to } => control::savepoint(&job.name, to.as_deref()),
        Command::Stop(args) => control::stop(&args),
        Command::Cancel(job) => control::cancel(&job.name),
        Command::Swap { job, udf, path } => control::swap(&job.name, udf, &path),
        Command::State(args) => state::state(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Udf(UdfCommand::New { lang, name }) => udf::new::new(lang, &name),
        Command::Udf(UdfCommand::Build(args)) => udf::build::build(&args),
        Command::Udf(UdfCommand::Inspect { file, json }) => udf::inspect::inspect(&file, json),
        Command::Udf(UdfCommand::Test { path }) => udf::test::test(&path),
        Command::Udf(UdfCommand::Bench(args)) => udf::bench::bench(&args),
        Command::Show { path, rows } => print(&show::show(&path, rows)?),
        Command::Config => print(&config_text()),
        Command::Schema => print(wasmill_runtime::JOB_SCHEMA),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "wasmill", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// To standard output. A reader that wants no more (`| head`) is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes())).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::because("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

fn config_text() -> String {
    let rows = KEYS.iter().map(|key| vec![key.name.into(), key.kind.into(), key.default.into(), key.help.into()]);
    table(&["KEY", "TYPE", "DEFAULT", ""], &rows.collect::<Vec<_>>())
}

/// Columns as wide as their widest cell, two spaces between; columns of numbers are the caller's to pad.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n") + "\n"
}
