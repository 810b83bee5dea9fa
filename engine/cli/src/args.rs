//! The arguments of the program and their help.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const RUN_EXAMPLES: &str = "\
Examples:
  wasmill run job.yaml
  wasmill run job.yaml --set parallelism=4 --set bundle.size=2000
  wasmill run job.yaml --set udfs.legs.on-error=skip --set nodes.out.path=/tmp/out

While it runs, other commands reach it: wasmill jobs, checkpoint, savepoint, stop, cancel, swap.

Exit codes: 0 done, 1 the job failed, 2 the job is not valid or the command is wrong, 130 stopped by Ctrl-C, or before its end
with nothing committed.
The first Ctrl-C stops the sources and finishes what is on its way; the second leaves at once.";

const JOBS_EXAMPLES: &str = "\
A job is found by a file that only its user can read, in $XDG_RUNTIME_DIR/wasmill or wasmill-UID of the folder for temporary files.
docs/control.md has the HTTP interface behind these commands.

Examples:
  wasmill jobs
  wasmill stop flights";

const SAVEPOINT_EXAMPLES: &str = "\
Prints where it is, which `wasmill run --from` takes; the rest is told on standard error.

Examples:
  wasmill savepoint flights
  wasmill savepoint flights --to s3://bucket/flights/monday";

const STOP_EXAMPLES: &str = "\
Takes a savepoint, so that the job can go on from there, then ends it; prints where the savepoint is. With --drain windows and timers
fire first, as if the sources had ended: what comes out is final, and the job is not meant to go on.

Examples:
  wasmill stop flights
  wasmill stop flights --no-savepoint
  wasmill stop flights-4711 --drain --to /var/kept/flights";

const SWAP_EXAMPLES: &str = "\
The file is loaded and compared first: it must give the same types, and know the states. Then the job takes a checkpoint and goes on
from it with the file in place of the UDF's, and all that the job says of the UDF beside its path. Where that cannot be, the command
says why, and the job goes on as before. A job that fails on the UDF, and waits to start again, takes a mended one too.
`wasmill run --resume` takes the file that the job names.

Example:
  wasmill swap flights legs legs.py";

const STATE_EXAMPLES: &str = "\
Without NODE: which nodes have state, and how much. With it: the state of its keys, the positions of a source, or what a sink has
prepared. Keys of windows that have fired are not shown. Reads while a job runs, changes nothing.

Examples:
  wasmill state kept                               # the newest checkpoint of a job with execution.checkpointing.dir: kept
  wasmill state s3://bucket/flights/monday daily   # a savepoint's node \"daily\"
  wasmill state kept daily --key AA --key 2026-01-01
  wasmill state kept daily --checkpoint 17 --output daily.parquet";

const REPLAY_EXAMPLES: &str = "\
A job that ends since a function failed says where the call is recorded; docs/replay.md has more.

Examples:
  wasmill replay DIR                     # the same again, in Wasm
  wasmill replay DIR --udf legs.py       # does this version do better, and what does it do otherwise?
  wasmill replay DIR --pdb               # Python: natively, into the debugger where it raises

Exit codes: 0 it runs well, 1 it fails (again), 2 it cannot be run.";

const CHECK_EXAMPLES: &str = "\
Checks everything that can be wrong: shape, names, types, functions, input files. Loads and opens each UDF, reads no row, writes nothing;
whether the outputs can be written is seen by `run`.

Examples:
  wasmill check job.yaml
  wasmill check job.yaml --set parallelism=8";

const NEW_EXAMPLES: &str = "\
Examples:
  wasmill udf new --lang rust grades     # then: cd grades && wasmill udf test && wasmill udf build
  wasmill udf new --lang python legs";

const BUILD_EXAMPLES: &str = "\
A Rust crate becomes a component by cargo (target wasm32-wasip2). A Python file becomes a copy of the Python runner with the file and
its pure-Python dependencies inside; jobs can also name the .py itself, without a build.

Examples:
  wasmill udf build grades               # grades/grades.wasm
  wasmill udf build legs.py -o out/legs.wasm --requirements requirements.txt --include helpers/";

const BENCH_EXAMPLES: &str = "\
Calls the function on this machine in one thread, as a job would: once a row, then in bundles. Arguments are made up, or come from a
file by their names.

Examples:
  wasmill udf bench legs.py grade
  wasmill udf bench distance.wasm km --resource data/airports.csv --data data/flights.parquet";

/// Stream processing with WebAssembly UDFs.
#[derive(Debug, Parser)]
#[command(name = "wasmill", version, about, max_term_width = 120, arg_required_else_help = true)]
#[command(
    after_help = "Examples:\n  wasmill run job.yaml\n  wasmill udf new --lang python legs\n  wasmill completions bash > ~/.local/share/bash-completion/completions/wasmill"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Validate a job without running it
    #[command(after_help = CHECK_EXAMPLES)]
    Check(JobArgs),
    /// List the jobs of this user that run on this machine
    #[command(after_help = JOBS_EXAMPLES)]
    Jobs,
    /// Take a checkpoint of a running job now
    #[command(after_help = "Example:\n  wasmill checkpoint flights")]
    Checkpoint(RunningArgs),
    /// Take a savepoint of a running job, to go on from later
    #[command(after_help = SAVEPOINT_EXAMPLES)]
    Savepoint {
        #[command(flatten)]
        job: RunningArgs,
        /// Where, a directory or URL [default: where the job keeps its own]
        #[arg(long, value_name = "DIR")]
        to: Option<String>,
    },
    /// End a running job after a savepoint
    #[command(after_help = STOP_EXAMPLES)]
    Stop(StopArgs),
    /// End a running job at once; what it has not committed is lost
    #[command(after_help = "Example:\n  wasmill cancel flights")]
    Cancel(RunningArgs),
    /// Give a running job a new version of a UDF
    #[command(after_help = SWAP_EXAMPLES)]
    Swap {
        #[command(flatten)]
        job: RunningArgs,
        /// Its name in the job
        udf: String,
        /// A .wasm or .py file
        path: PathBuf,
    },
    /// Show or export the state that a checkpoint or savepoint holds
    #[command(after_help = STATE_EXAMPLES)]
    State(StateArgs),
    /// Run a call again that ended a job
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Make, build, look into, test and measure UDFs
    #[command(subcommand)]
    Udf(UdfCommand),
    /// Show rows of a Parquet, CSV or JSON lines file, or of a folder of them, as a table
    #[command(after_help = "Example:\n  wasmill show out/daily --rows 20")]
    Show {
        /// A file, or a folder that a sink wrote
        path: PathBuf,
        /// How many rows
        #[arg(long, default_value_t = 10)]
        rows: usize,
    },
    /// List every configuration key with its default
    Config,
    /// Print the JSON Schema of job files, for editors
    #[command(
        after_help = "Example, in the first line of a job file:\n  # yaml-language-server: $schema=job.schema.json"
    )]
    Schema,
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    pub job: PathBuf,
    /// Override a configuration key, `udfs.NAME.KEY` or `nodes.NAME.KEY`; can be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// Go on from the newest checkpoint in execution.checkpointing.dir; begin at the beginning if there is none
    #[arg(long, conflicts_with = "from")]
    pub resume: bool,
    /// Go on from this checkpoint or savepoint: its directory or URL, or that of the checkpoints, of which the newest is taken
    #[arg(long, value_name = "PLACE")]
    pub from: Option<String>,
    /// With --from: the checkpoint of this number, not the newest; where the job goes on in the same place, newer ones are removed
    #[arg(long, value_name = "N", requires = "from", conflicts_with = "resume")]
    pub checkpoint: Option<u64>,
    /// With --from or --resume: leave out state of nodes that the job does not have any more
    #[arg(long)]
    pub allow_non_restored: bool,
    /// Least severe log lines of UDFs to show
    #[arg(long, value_enum, default_value_t = Level::Info)]
    pub log_level: Level,
    /// Show no progress and no summary
    #[arg(long, short)]
    pub quiet: bool,
    /// Where other commands reach the job: an address of loopback, port 0 being any free one, or `off`
    #[arg(long, value_name = "ADDR|off", default_value = "127.0.0.1:0", value_parser = control)]
    pub control: Control,
}

/// Where a job is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Off,
    At(SocketAddr),
}

#[derive(Debug, Args)]
pub(crate) struct RunningArgs {
    /// Its name, or NAME-PID where several of that name run
    #[arg(value_name = "JOB")]
    pub name: String,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub job: RunningArgs,
    /// Let windows and timers fire first, as if the sources had ended
    #[arg(long)]
    pub drain: bool,
    /// Take no savepoint
    #[arg(long, conflicts_with = "to")]
    pub no_savepoint: bool,
    /// Where the savepoint goes, a directory or URL [default: where the job keeps its own]
    #[arg(long, value_name = "DIR")]
    pub to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// A checkpoint or savepoint, as `run --from` takes it: its directory or URL, or that of the checkpoints
    pub place: String,
    /// Show the state of this node
    pub node: Option<String>,
    /// The checkpoint of this number, not the newest
    #[arg(long, value_name = "N")]
    pub checkpoint: Option<u64>,
    /// How many keys to show
    #[arg(long, default_value_t = 20)]
    pub rows: usize,
    /// Only this key, as it is shown; a value for each of its columns, in order
    #[arg(long, value_name = "VALUE", requires = "node")]
    pub key: Vec<String>,
    /// Write all keys to this file, whose name ends in .parquet, .jsonl or .csv
    #[arg(long, short, value_name = "FILE", requires = "node")]
    pub output: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The folder of the record
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Run this version of the UDF, a .wasm or .py file, and tell what is different
    #[arg(long, value_name = "FILE")]
    pub udf: Option<PathBuf>,
    /// How many rows, keys and rows out to show
    #[arg(long, default_value_t = 20)]
    pub rows: usize,
    /// Python: run it natively, by $PYTHON or python3
    #[arg(long)]
    pub native: bool,
    /// Python: natively, into pdb where it raises
    #[arg(long)]
    pub pdb: bool,
    /// Python: natively, into pdb at the function's first line, at this row of the bundle
    #[arg(long, value_name = "ROW", conflicts_with = "pdb")]
    pub stop_at: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    Python,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UdfCommand {
    /// Make a new project that builds and tests at once
    #[command(after_help = NEW_EXAMPLES)]
    New {
        /// The language of the project
        #[arg(long, value_enum)]
        lang: Language,
        /// Name of the project and of its folder
        #[arg(value_parser = project_name)]
        name: String,
    },
    /// Build a self-contained .wasm from a Rust crate or a Python file
    #[command(after_help = BUILD_EXAMPLES)]
    Build(BuildArgs),
    /// Show functions, types, states and imports of a .wasm or .py
    #[command(after_help = "Example:\n  wasmill udf inspect legs.py")]
    Inspect {
        /// A .wasm or .py file
        file: PathBuf,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Run a project's tests natively, without Wasm (`cargo test`, or pytest where there is one, else unittest)
    #[command(after_help = "Example:\n  wasmill udf test legs")]
    Test {
        /// Folder of the project, or a Python file of tests
        #[arg(default_value = ".")]
        path: PathBuf,
    },
    /// Measure a function per row and per bundle
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// A Rust crate, a Python file, or a folder with one of them
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// The file to write [default: NAME.wasm beside the source]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Python: packages to bring along [default: requirements.txt beside the file, where there is one]
    #[arg(long, value_name = "FILE")]
    pub requirements: Option<PathBuf>,
    /// Python: a module, a folder of modules or a zip of them to bring along; can be given several times
    #[arg(long, value_name = "PATH")]
    pub include: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// A .wasm or .py file
    pub file: PathBuf,
    /// Name of the function
    pub function: String,
    /// A file that the function may read in open(); can be given several times
    #[arg(long, value_name = "FILE")]
    pub resource: Vec<PathBuf>,
    /// A parameter of the function; can be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub parameter: Vec<(String, String)>,
    /// Take the arguments from the columns of the same names of this file (.parquet, .csv, .jsonl)
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Seconds to measure each size of bundle
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    pub time: f64,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is wanted, such as parallelism=2".into()),
    }
}

fn control(text: &str) -> Result<Control, String> {
    match text.parse() {
        _ if text == "off" => Ok(Control::Off),
        Ok(address) if SocketAddr::ip(&address).is_loopback() => Ok(Control::At(address)),
        _ => {
            Err("an address of loopback is possible, such as 127.0.0.1:4711 or 127.0.0.1:0 (any free port), or off"
                .into())
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.001 to 3600 is possible".into()),
    }
}

/// Keywords of both languages, and modules and crates that a project of that name would hide.
const RESERVED: [&str; 84] = [
    "abstract",
    "alloc",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "become",
    "box",
    "break",
    "class",
    "const",
    "continue",
    "core",
    "crate",
    "def",
    "del",
    "do",
    "dyn",
    "elif",
    "else",
    "enum",
    "except",
    "extern",
    "false",
    "final",
    "finally",
    "fn",
    "for",
    "from",
    "gen",
    "global",
    "if",
    "impl",
    "import",
    "in",
    "is",
    "json",
    "lambda",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "none",
    "nonlocal",
    "not",
    "or",
    "os",
    "override",
    "pass",
    "priv",
    "proc_macro",
    "pub",
    "python",
    "raise",
    "re",
    "ref",
    "return",
    "rust",
    "self",
    "static",
    "std",
    "string",
    "struct",
    "super",
    "sys",
    "test",
    "tests",
    "time",
    "trait",
    "true",
    "try",
    "type",
    "typing",
    "unsafe",
    "use",
    "wasmill",
    "wasmill_udf",
    "where",
    "while",
    "yield",
];

/// A name that is a folder, a crate and a Python module at once.
fn project_name(text: &str) -> Result<String, String> {
    let mut characters = text.chars();
    if RESERVED.contains(&text) {
        return Err("that name has a meaning of its own in Rust or Python: choose another".into());
    }
    let starts = characters.next().is_some_and(|c| c.is_ascii_lowercase());
    if starts && text.len() <= 64 && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        return Ok(text.to_owned());
    }
    Err("lower-case letters, digits and _ are possible, a letter first, 64 characters at most".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_are_pairs() {
        assert_eq!(pair("a.b=c=d"), Ok(("a.b".into(), "c=d".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err());
        assert!(pair("=a").is_err());
    }

    #[test]
    fn jobs_are_controlled_from_this_machine_only() {
        assert_eq!(control("off"), Ok(Control::Off));
        assert!(matches!(control("127.0.0.1:0"), Ok(Control::At(_))));
        assert!(matches!(control("[::1]:4711"), Ok(Control::At(_))));
        for text in ["", "on", "4711", "0.0.0.0:0", "10.0.0.1:80", "localhost:80"] {
            assert!(control(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_projects() {
        assert!(project_name("legs_2").is_ok());
        for name in ["", "Legs", "2legs", "le-gs", "../legs", "é", &"x".repeat(65), "class", "fn", "wasmill", "std"] {
            assert!(project_name(name).is_err(), "{name}");
        }
    }
}
