//! The text of a job file, read and validated as far as no file is touched and no function called; and the small notations in it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use wasmill_host::{Engine, EngineConfig};
use wasmill_runtime::connector::{ConnectorRegistry, ReadOutcome, Source};
use wasmill_runtime::error::{Problem, ProblemKind};
use wasmill_runtime::graph::JobGraph;
use wasmill_runtime::spec::JobSpec;
use wasmill_runtime::udf_file::Environment;
use wasmill_runtime::value::{Location, Value, ValueKind};
use wasmill_runtime::{call, duration, job_file, validate::validate, value};

/// Longer texts take the fuzzer's time and find no more.
const NOTATION_BYTES_MAX: usize = 200;
const BASE: &str = "a/folder/that/is/not/there";
/// Connectors that touch nothing.
const SOURCES: [&str; 2] = ["collection", "generator"];
const SINKS: [&str; 2] = ["print", "blackhole"];

pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check_notations(&text);
    let read = job_file::read(&text, Path::new(BASE), &[]);
    if let Err(problems) = &read {
        assert!(!problems.is_empty(), "refused without a word");
        check_problems(&text, problems);
    }
    check_lower_down(&text, &read);
    match read {
        Ok(spec) => check_valid(&text, &without_files(spec)),
        // A text that cannot name a UDF names no file either.
        Err(problems) if !text.contains("udfs") && !text.contains(['\\', '!']) => check_load(&text, &problems),
        Err(_) => {}
    }
}

/// Durations, sizes, calls and `--set` read any text at all; what has a printed form is read back from it.
fn check_notations(text: &str) {
    if text.len() > NOTATION_BYTES_MAX {
        return;
    }
    if let Ok(length) = duration::parse(text) {
        assert_eq!(duration::parse(&duration::display(length)), Ok(length), "{text:?}");
    }
    let _ = value::parse_bytes(text);
    match call::parse(text) {
        Ok(call) => assert!(!call.udf.is_empty() && !call.function.is_empty(), "{text:?}"),
        Err(error) => assert!(error.to_string().contains(text), "{text:?}: {error}"),
    }
    assert_no_places(&Value::setting(text));
    let scalar = Value::scalar(text);
    assert!(!matches!(scalar.kind, ValueKind::Map(_)), "{text:?}");
    assert_no_places(&scalar);
}

/// What does not stand in the file has no place in it.
fn assert_no_places(value: &Value) {
    assert_eq!(value.at, Location::NONE);
    match &value.kind {
        ValueKind::List(values) => values.iter().for_each(assert_no_places),
        ValueKind::Map(entries) => entries.iter().for_each(|(name, value)| {
            assert_eq!(name.at, Location::NONE);
            assert_no_places(value);
        }),
        _ => {}
    }
}

/// Every problem says something of bounded length, and where in the file.
fn check_problems(text: &str, problems: &[Problem]) {
    let lines: Vec<&str> = text.split("\r\n").flat_map(|part| part.split(['\n', '\r'])).collect();
    for problem in problems {
        let message = problem.to_string();
        assert!(!message.is_empty() && message.len() <= 10_000 + 20 * text.len(), "{} bytes", message.len());
        if !problem.at.is_known() {
            continue;
        }
        let line = lines.get(problem.at.line as usize - 1);
        let line = line.unwrap_or_else(|| panic!("{}: {message}: the file has {} lines", problem.at, lines.len()));
        let columns = 1..=line.chars().count() + 1;
        assert!(columns.contains(&(problem.at.column as usize)), "{}: {message}: of {columns:?}", problem.at);
    }
}

/// With a comment in front, everything is the same a line further down.
fn check_lower_down(text: &str, read: &Result<JobSpec, Vec<Problem>>) {
    if text.starts_with('\u{feff}') {
        return; // It belongs in front.
    }
    let lower = job_file::read(&format!("# A comment.\n{text}"), Path::new(BASE), &[]);
    match (read, lower) {
        (Ok(spec), Ok(lower)) => {
            let names = |spec: &JobSpec| spec.nodes.iter().map(|node| node.name.text.clone()).collect::<Vec<_>>();
            assert_eq!((&spec.name.text, names(spec)), (&lower.name.text, names(&lower)));
        }
        (Err(problems), Err(lower)) => {
            assert_eq!(problems.len(), lower.len(), "{problems:#?} {lower:#?}");
            problems.iter().zip(&lower).for_each(|(problem, lower)| assert_lower(problem, lower));
        }
        (read, lower) => panic!("a comment in front matters: {read:#?} {lower:#?}"),
    }
}

fn assert_lower(problem: &Problem, lower: &Problem) {
    if problem.at.is_known() {
        assert_eq!((problem.at.line + 1, problem.at.column), (lower.at.line, lower.at.column), "{problem}");
    } else {
        assert!(!lower.at.is_known(), "{lower}");
    }
    // These have places in them.
    let elsewhere = problem.to_string().contains("first at") || matches!(problem.kind, ProblemKind::Yaml(_));
    if !elsewhere {
        assert_eq!(problem.to_string(), lower.to_string());
    }
}

/// A UDF whose path has no known ending is a problem before anything is opened.
fn without_files(mut spec: JobSpec) -> JobSpec {
    for udf in &mut spec.udfs {
        udf.options.set("path", Value::text("nothing"));
    }
    spec
}

fn check_valid(text: &str, spec: &JobSpec) {
    match validate(spec, environment(), connectors()) {
        Ok(graph) => check_graph(spec, &graph),
        Err(problems) => {
            check_problems(text, &problems);
            assert!(!problems.is_empty(), "refused without a word");
        }
    }
}

/// What cannot be read cannot be loaded, for the same reasons at least.
fn check_load(text: &str, unreadable: &[Problem]) {
    let problems = match job_file::load(text, Path::new(BASE), &[], environment(), connectors()) {
        Ok(_) => panic!("loaded, though not readable: {unreadable:#?}"),
        Err(problems) => problems,
    };
    check_problems(text, &problems);
    let texts: Vec<String> = problems.iter().map(|problem| format!("{} {problem}", problem.at)).collect();
    for problem in unreadable {
        let problem = format!("{} {problem}", problem.at);
        assert!(texts.contains(&problem), "{problem} is not among {texts:#?}");
    }
}

fn check_graph(spec: &JobSpec, graph: &JobGraph) {
    assert_eq!(graph.name(), spec.name.text);
    assert_eq!(graph.nodes().len(), spec.nodes.len());
    let mut names = HashSet::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        assert!(names.insert(node.name()), "two nodes are called {}", node.name());
        assert!(node.inputs().iter().all(|(input, _)| *input < index), "{} stands before its input", node.name());
        assert!((1..=1024).contains(&node.parallelism()));
        let mut columns = HashSet::new();
        assert!(node.schema().fields().iter().all(|field| columns.insert(field.name())), "{:?}", node.schema());
        assert!(!node.describe().is_empty());
    }
}

/// Only for what it compiles with: nothing is ever loaded into it.
fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let engine = Engine::new(EngineConfig { instances_max: 1, ..EngineConfig::default() }).expect("an engine");
        Environment { engine, python_runner: None, packages_dir: None }
    })
}

fn connectors() -> &'static ConnectorRegistry {
    static ALL: OnceLock<ConnectorRegistry> = OnceLock::new();
    static SOME: OnceLock<ConnectorRegistry> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let mut all = ConnectorRegistry::default();
        wasmill_connectors::register(&mut all);
        all
    });
    SOME.get_or_init(|| {
        let mut some = ConnectorRegistry::default();
        for name in SOURCES {
            some.register_source(name, move |context| all.source(name, context).inspect(check_source));
        }
        for name in SINKS {
            some.register_sink(name, move |context| all.sink(name, context));
        }
        some
    })
}

/// The first rows of a source fit its schema.
fn check_source(source: &Arc<dyn Source>) {
    let splits = source.splits().unwrap_or_else(|error| panic!("{source:?}: {error}"));
    let Some(split) = splits.first() else { return };
    let mut reader = source.open(split, None).unwrap_or_else(|error| panic!("{source:?}: {error}"));
    match reader.next(3).unwrap_or_else(|error| panic!("{source:?}: {error}")) {
        ReadOutcome::Rows { rows, first_row } => {
            assert!((1..=3).contains(&rows.num_rows()) && first_row == 0, "{} rows", rows.num_rows());
            assert_eq!(rows.schema(), source.schema());
            for column in rows.columns() {
                column.to_data().validate_full().unwrap_or_else(|error| panic!("{source:?}: {error}"));
            }
        }
        ReadOutcome::Rejected(rows) => panic!("{source:?} rejects {rows:?}"),
        ReadOutcome::Pending(_) | ReadOutcome::End => {}
    }
}
