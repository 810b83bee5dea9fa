//! Reads a job file (YAML) into a [`JobSpec`]: its shape, not yet what its names mean.

use std::path::Path;

use wasmill_host::Access;

use crate::connector::ConnectorRegistry;
use crate::error::{Problem, ProblemKind};
use crate::graph::JobGraph;
use crate::spec::{
    ConnectorSpec, Endpoint, JobSpec, NodeSpec, ON_ERROR, OnError, OperationSpec, StateSpec, UdfSpec, WatermarkSpec,
    WindowSpec,
};
use crate::udf_file::Environment;
use crate::validate::validate;
use crate::value::{Location, Name, OptionError, Options, Value, ValueKind, yaml_options};

/// What makes a node what it is: exactly one of these keys stands in it (`aggregate` goes with `window`).
const OPERATIONS: [&str; 10] =
    ["source", "with", "select", "map", "flat_map", "filter", "process", "reduce", "window", "sink"];

/// Reads the text of a job file. `base` is its folder, for relative paths; `set` are `key=value` pairs that win over
/// the file: a configuration key, `udfs.NAME.KEY`, `nodes.NAME.KEY` or `dead-letters.KEY`.
pub fn read(text: &str, base: &Path, set: &[(String, String)]) -> Result<JobSpec, Vec<Problem>> {
    match read_leniently(text, base, set) {
        Ok((spec, problems)) if problems.is_empty() => Ok(spec),
        Ok((_, problems)) => Err(problems),
        Err(problem) => Err(vec![problem]),
    }
}

/// From the text of a job file to a graph that can run: [`read`] and [`validate`]. Reports everything that is wrong with either.
pub fn load(
    text: &str,
    base: &Path,
    set: &[(String, String)],
    environment: &Environment,
    connectors: &ConnectorRegistry,
) -> Result<JobGraph, Vec<Problem>> {
    let (spec, mut problems) = read_leniently(text, base, set).map_err(|problem| vec![problem])?;
    match validate(&spec, environment, connectors) {
        Ok(graph) if problems.is_empty() => Ok(graph),
        Ok(_) => Err(problems),
        Err(more) => {
            // What is missing may stand in what could not be read.
            let whole = problems.is_empty();
            problems.extend(more.into_iter().filter(|more| whole || !matches!(more.kind, ProblemKind::Empty(_))));
            Err(problems)
        }
    }
}

/// As [`read`], but gives what could be read beside what could not, so that the rest is checked too.
fn read_leniently(text: &str, base: &Path, set: &[(String, String)]) -> Result<(JobSpec, Vec<Problem>), Problem> {
    let value: Value = serde_saphyr::from_str_with_options(text, yaml_options()).map_err(|error| syntax(&error))?;
    let ValueKind::Map(entries) = value.kind else {
        let got = value.describe();
        let message = format!("a job is a map with name, udfs and pipeline, not {got}");
        return Err(Problem::new(value.at, ProblemKind::Shape(message)));
    };
    let mut reader = Reader { problems: Vec::new(), set: split_set(set) };
    let spec = reader.job(entries, base);
    let unused = std::mem::take(&mut reader.set);
    for set in unused {
        let problem = match set.scope {
            Scope::Config => continue,
            Scope::DeadLetters => {
                ProblemKind::Shape(format!("--set dead-letters.{}: the job has no dead letters", set.key))
            }
            Scope::Udf(name) => {
                ProblemKind::Shape(format!("--set udfs.{name}.{}: no UDF is called \"{name}\"", set.key))
            }
            Scope::Node(name) => {
                ProblemKind::Shape(format!("--set nodes.{name}.{}: no node is called \"{name}\"", set.key))
            }
        };
        reader.problems.push(Problem::new(Location::NONE, problem));
    }
    Ok((spec, reader.problems))
}

fn syntax(error: &serde_saphyr::Error) -> Problem {
    let at = error.location().map_or(Location::NONE, |at| Location {
        line: u32::try_from(at.line()).unwrap_or(u32::MAX),
        column: u32::try_from(at.column()).unwrap_or(u32::MAX),
    });
    let message = match error.without_snippet() {
        serde_saphyr::Error::MultipleDocuments { .. } => {
            "a second document begins (`---`): a job file is one".to_owned()
        }
        serde_saphyr::Error::Budget { .. } => {
            "it is nested too deep, or has more values or aliases, than any job needs".to_owned()
        }
        // The place is told already.
        other => other
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .replace(&format!(" at line {}, column {}", at.line, at.column), ""),
    };
    Problem::new(at, ProblemKind::Yaml(message))
}

enum Scope {
    Config,
    Udf(String),
    Node(String),
    DeadLetters,
}

struct Set {
    scope: Scope,
    key: String,
    value: Value,
}

fn split_set(set: &[(String, String)]) -> Vec<Set> {
    let scoped = |text: &str, prefix: &str| {
        let (name, key) = text.strip_prefix(prefix)?.split_once('.')?;
        Some((name.to_owned(), key.to_owned()))
    };
    set.iter()
        .map(|(key, value)| {
            let value = Value::setting(value);
            if let Some((name, key)) = scoped(key, "udfs.") {
                Set { scope: Scope::Udf(name), key, value }
            } else if let Some(key) = key.strip_prefix("dead-letters.") {
                Set { scope: Scope::DeadLetters, key: key.to_owned(), value }
            } else if let Some((name, key)) = scoped(key, "nodes.") {
                Set { scope: Scope::Node(name), key, value }
            } else {
                Set { scope: Scope::Config, key: key.clone(), value }
            }
        })
        .collect()
}

struct Reader {
    problems: Vec<Problem>,
    set: Vec<Set>,
}

impl Reader {
    fn option(&mut self, error: OptionError) {
        self.problems.push(Problem::new(error.at, ProblemKind::Option { owner: None, error }));
    }

    fn node_option(&mut self, owner: &Name, mut error: OptionError) {
        if !error.at.is_known() {
            error.at = owner.at;
        }
        self.problems.push(Problem::new(error.at, ProblemKind::Option { owner: Some(owner.text.clone()), error }));
    }

    fn shape(&mut self, at: Location, message: String) {
        self.problems.push(Problem::new(at, ProblemKind::Shape(message)));
    }

    /// The value, or the problem noted and nothing.
    fn note<T>(&mut self, owner: &Name, result: Result<Option<T>, OptionError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.node_option(owner, error);
            None
        })
    }

    /// Nothing where a key stands twice, which is noted.
    fn options(&mut self, entries: Vec<(Name, Value)>) -> Option<Options> {
        Options::from_map(entries).map_err(|error| self.option(error)).ok()
    }

    fn job(&mut self, entries: Vec<(Name, Value)>, base: &Path) -> JobSpec {
        let Some(mut options) = self.options(entries) else { return JobSpec::new("job", base) };
        let at = options.at("name");
        let name = match options.required_string("name") {
            Ok(text) => Name { text, at },
            Err(error) => {
                self.option(error);
                Name::from("job")
            }
        };
        let config = options.options("config").unwrap_or_else(|error| {
            self.option(error);
            None
        });
        let mut config = config.unwrap_or_default();
        for set in self.take_set(|scope| matches!(scope, Scope::Config)) {
            config.set(&set.key, set.value);
        }
        let udfs = options.value("udfs").map_or_else(Vec::new, |value| self.udfs(value));
        let dead_letters = options.value("dead-letters").and_then(|value| self.dead_letters(value));
        let nodes = match options.value("pipeline") {
            Some(value) => self.pipeline(value),
            None => {
                self.shape(Location::NONE, "pipeline: is missing: a list of nodes, each `- name: { … }`".into());
                Vec::new()
            }
        };
        for error in options.finish() {
            self.option(error);
        }
        JobSpec { name, base: base.to_owned(), config, udfs, nodes, dead_letters }
    }

    fn take_set(&mut self, wanted: impl Fn(&Scope) -> bool) -> Vec<Set> {
        let (taken, left) = std::mem::take(&mut self.set).into_iter().partition(|set| wanted(&set.scope));
        self.set = left;
        taken
    }

    fn udfs(&mut self, value: Value) -> Vec<UdfSpec> {
        let ValueKind::Map(entries) = value.kind else {
            self.shape(value.at, format!("udfs: is {}; a map of name: {{ path: … }} is wanted", value.describe()));
            return Vec::new();
        };
        let mut udfs: Vec<UdfSpec> = Vec::new();
        for (name, value) in entries {
            let read = match value.kind {
                ValueKind::Map(entries) => self.options(entries),
                ValueKind::Text(path) => {
                    let mut options = Options::default();
                    options.set("path", Value { at: value.at, kind: ValueKind::Text(path) });
                    Some(options)
                }
                _ => {
                    let got = value.describe();
                    self.shape(value.at, format!("udfs.{name}: is {got}; {{ path: … }} or a path is wanted"));
                    None
                }
            };
            let unreadable = read.is_none();
            let mut options = read.unwrap_or_default();
            for set in self.take_set(|scope| matches!(scope, Scope::Udf(udf) if *udf == name.text)) {
                options.set(&set.key, set.value);
            }
            if let Some(first) = udfs.iter().find(|udf| udf.name.text == name.text) {
                let first = first.name.at;
                self.problems
                    .push(Problem::new(name.at, ProblemKind::Duplicate { what: "UDF", name: name.text, first }));
                continue;
            }
            udfs.push(UdfSpec { name, options, unreadable });
        }
        udfs
    }

    fn dead_letters(&mut self, value: Value) -> Option<ConnectorSpec> {
        let owner = Name { text: "dead-letters".into(), at: value.at };
        let ValueKind::Map(entries) = value.kind else {
            let got = value.describe();
            self.shape(value.at, format!("dead-letters: is {got}; {{ sink: jsonl, path: … }} is wanted"));
            return None;
        };
        let mut options = self.options(entries)?;
        for set in self.take_set(|scope| matches!(scope, Scope::DeadLetters)) {
            options.set(&set.key, set.value);
        }
        self.connector(&owner, &mut options, "sink")
    }

    fn connector(&mut self, owner: &Name, options: &mut Options, key: &str) -> Option<ConnectorSpec> {
        let at = options.at(key);
        match options.required_string(key) {
            Ok(text) => Some(ConnectorSpec { connector: Name { text, at }, options: std::mem::take(options) }),
            Err(error) => {
                self.node_option(owner, error);
                None
            }
        }
    }

    fn pipeline(&mut self, value: Value) -> Vec<NodeSpec> {
        let entries: Vec<(Name, Value)> = match value.kind {
            ValueKind::List(items) => items.into_iter().filter_map(|item| self.item(item)).collect(),
            ValueKind::Map(entries) => entries,
            _ => {
                let got = value.describe();
                self.shape(value.at, format!("pipeline: is {got}; a list of nodes, each `- name: {{ … }}`, is wanted"));
                return Vec::new();
            }
        };
        entries.into_iter().map(|(name, value)| self.node(name, value)).collect()
    }

    fn item(&mut self, item: Value) -> Option<(Name, Value)> {
        let got = item.describe();
        match item.kind {
            ValueKind::Map(mut entries) if entries.len() == 1 => entries.pop(),
            _ => {
                self.shape(item.at, format!("a node is `- name: {{ … }}`, one name and its keys; this is {got}"));
                None
            }
        }
    }

    fn node(&mut self, name: Name, value: Value) -> NodeSpec {
        let set = self.take_set(|scope| matches!(scope, Scope::Node(node) if *node == name.text));
        let options = match value.kind {
            ValueKind::Map(entries) => self.options(entries),
            _ => {
                self.shape(value.at, format!("node \"{name}\" is {}; a map is wanted", value.describe()));
                None
            }
        };
        let Some(mut options) = options else {
            let operation = OperationSpec::Unreadable;
            return NodeSpec::named(name, operation);
        };
        for set in set {
            options.set(&set.key, set.value);
        }
        let at = options.at("parallelism");
        let parallelism = options.unsigned("parallelism");
        let parallelism = self.note(&name, parallelism).map(|parallelism| (parallelism, at));
        let from = options.strings("from");
        let from = self.note(&name, from).unwrap_or_default();
        let id = if options.contains("id") { self.text(&name, &mut options, "id") } else { None };
        let result = if options.contains("result") { self.text(&name, &mut options, "result") } else { None };
        let states = options.options("state");
        let states = self.note(&name, states).map_or_else(Vec::new, |states| self.states(&name, states));
        let operation = match self.operation(&name, &mut options, from.len()) {
            Some(operation) => {
                for error in options.finish() {
                    self.node_option(&name, error);
                }
                operation
            }
            // What the other keys are depends on it.
            None => OperationSpec::Unreadable,
        };
        NodeSpec { name, id, from, operation, parallelism, result, states }
    }

    /// `state: { sum: { access: call } }`
    fn states(&mut self, owner: &Name, states: Options) -> Vec<StateSpec> {
        let mut read = Vec::new();
        for (name, value) in states.into_entries() {
            let ValueKind::Map(entries) = value.kind else {
                let message = format!("is {}; {{ access: column | call }} is wanted", value.describe());
                self.node_option(owner, OptionError { at: value.at, key: format!("state.{name}"), message });
                continue;
            };
            let Some(mut options) = self.options(entries) else { continue };
            let access = options.choice("access", &[("column", Access::Column), ("call", Access::Call)]);
            let access = self.note(owner, access);
            for error in options.finish() {
                self.node_option(owner, error);
            }
            read.extend(access.map(|access| StateSpec { name, access }));
        }
        read
    }

    fn operation(&mut self, name: &Name, options: &mut Options, inputs: usize) -> Option<OperationSpec> {
        let found: Vec<&str> = OPERATIONS.into_iter().filter(|key| options.contains(key)).collect();
        let kind = match found.as_slice() {
            [one] => *one,
            [] if inputs > 0 && !options.contains("aggregate") => "union",
            [] if options.contains("aggregate") => {
                self.shape(
                    name.at,
                    format!("node \"{name}\" has an aggregate and no window: add `window: {{ tumbling: 1h }}`"),
                );
                return None;
            }
            [] => {
                let all = OPERATIONS.join(", ");
                self.shape(name.at, format!("node \"{name}\" does nothing: one of {all} is wanted"));
                return None;
            }
            several => {
                let several = several.join(" and ");
                self.shape(name.at, format!("node \"{name}\" has {several}: make them nodes of their own"));
                return None;
            }
        };
        match kind {
            "source" => self.source(name, options),
            "sink" => {
                let sink = Endpoint::Named(self.connector(name, options, "sink")?);
                Some(OperationSpec::Sink { sink })
            }
            "with" => Some(OperationSpec::With { columns: self.calls(name, options)? }),
            "select" => Some(OperationSpec::Select { columns: self.select(name, options)? }),
            "map" => Some(OperationSpec::Map { key: self.key(name, options), call: self.call(name, options, kind)? }),
            "flat_map" => {
                Some(OperationSpec::FlatMap { key: self.key(name, options), call: self.call(name, options, kind)? })
            }
            "filter" => {
                Some(OperationSpec::Filter { key: self.key(name, options), call: self.call(name, options, kind)? })
            }
            "process" => {
                Some(OperationSpec::Process { key: self.key(name, options), call: self.call(name, options, kind)? })
            }
            "reduce" => {
                Some(OperationSpec::Reduce { key: self.key(name, options), call: self.call(name, options, kind)? })
            }
            "window" => {
                let window = self.window(name, options)?;
                let key = self.key(name, options);
                Some(OperationSpec::Window { call: self.call(name, options, "aggregate")?, key, window })
            }
            _ => {
                options.know(&OPERATIONS);
                Some(OperationSpec::Union)
            }
        }
    }

    fn source(&mut self, name: &Name, options: &mut Options) -> Option<OperationSpec> {
        let watermark = options.options("watermark");
        let watermark = self.note(name, watermark).and_then(|watermark| self.watermark(name, watermark));
        let on_error = options.choice::<OnError>("on-error", &ON_ERROR);
        let on_error = self.note(name, on_error).unwrap_or_default();
        let source = Endpoint::Named(self.connector(name, options, "source")?);
        Some(OperationSpec::Source { source, watermark, on_error })
    }

    fn watermark(&mut self, name: &Name, mut options: Options) -> Option<WatermarkSpec> {
        let column = self.text(name, &mut options, "column");
        let delay = if options.contains("delay") { self.text(name, &mut options, "delay") } else { Some("0ms".into()) };
        for error in options.finish() {
            self.node_option(name, error);
        }
        Some(WatermarkSpec { column: column?, delay: delay? })
    }

    fn window(&mut self, name: &Name, options: &mut Options) -> Option<WindowSpec> {
        let window = options.options("window");
        let mut window = self.note(name, window)?;
        let size = self.text(name, &mut window, "tumbling");
        let offset = if window.contains("offset") { self.text(name, &mut window, "offset") } else { None };
        for error in window.finish() {
            self.node_option(name, error);
        }
        Some(WindowSpec { size: size?, offset })
    }

    fn key(&mut self, name: &Name, options: &mut Options) -> Vec<Name> {
        let key = options.strings("key");
        self.note(name, key).unwrap_or_default()
    }

    fn call(&mut self, name: &Name, options: &mut Options, key: &str) -> Option<Name> {
        self.text(name, options, key)
    }

    /// A text that has to be there, with its place.
    fn text(&mut self, owner: &Name, options: &mut Options, key: &str) -> Option<Name> {
        let value = options.value(key);
        match value.as_ref().and_then(|value| Some(Name { text: value.scalar_text()?, at: value.at })) {
            Some(text) => Some(text),
            None => {
                let message = value.as_ref().map_or_else(
                    || "is missing".to_owned(),
                    |value| format!("is {}; a text is wanted", value.describe()),
                );
                let at = value.map_or(owner.at, |value| value.at);
                self.node_option(owner, OptionError { at, key: key.to_owned(), message });
                None
            }
        }
    }

    fn calls(&mut self, name: &Name, options: &mut Options) -> Option<Vec<(Name, Name)>> {
        let value = options.value("with")?;
        let ValueKind::Map(entries) = value.kind else {
            let got = value.describe();
            self.shape(value.at, format!("node \"{name}\": with: is {got}; a map of column: call is wanted"));
            return None;
        };
        let mut columns = Vec::new();
        for (column, value) in rejoin(entries) {
            match value.scalar_text() {
                Some(text) => columns.push((column, Name { text, at: value.at })),
                None => {
                    let got = value.describe();
                    self.shape(value.at, format!("node \"{name}\": with.{column}: is {got}; a call is wanted"));
                }
            }
        }
        Some(columns)
    }

    fn select(&mut self, name: &Name, options: &mut Options) -> Option<Vec<(Name, Name)>> {
        let value = options.value("select")?;
        let pair = |value: Value| -> Option<Vec<(Name, Name)>> {
            match value.kind {
                ValueKind::Map(entries) => entries
                    .into_iter()
                    .map(|(new, column)| Some((new, Name { text: column.scalar_text()?, at: column.at })))
                    .collect(),
                _ => {
                    let column = Name { text: value.scalar_text()?, at: value.at };
                    Some(vec![(column.clone(), column)])
                }
            }
        };
        let at = value.at;
        let columns: Option<Vec<Vec<_>>> = match value.kind {
            ValueKind::List(values) => values.into_iter().map(pair).collect(),
            _ => pair(value).map(|one| vec![one]),
        };
        if columns.is_none() {
            self.shape(at, format!("node \"{name}\": select: columns, or new_name: column, are wanted"));
        }
        columns.map(|columns| columns.into_iter().flatten().collect())
    }
}

/// In a flow map `{ km: distance.km(origin, dest) }` YAML ends the value at the comma and reads `dest)` as a key
/// without a value. What was torn at an open parenthesis is put together again.
fn rejoin(entries: Vec<(Name, Value)>) -> Vec<(Name, Value)> {
    let mut joined: Vec<(Name, Value)> = Vec::new();
    for (name, value) in entries {
        if value.kind == ValueKind::Null
            && let Some((_, Value { kind: ValueKind::Text(open), .. })) = joined.last_mut()
            && open.matches('(').count() > open.matches(')').count()
        {
            open.push_str(", ");
            open.push_str(&name.text);
            continue;
        }
        joined.push((name, value));
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLIGHTS: &str = "\
name: flights
config: { parallelism: 2, bundle.size: 1000, bundle.time: 1s }
udfs:
  legs:     { path: udfs/legs.py }
  distance: { path: udfs/distance.wasm, resources: [data/airports.csv], memory.max: 64MiB }
pipeline:
  - flights: { source: parquet, path: data/flights.parquet, watermark: { column: sched_dep, delay: 22h } }
  - graded:  { from: flights, with: { grade: legs.grade(dep_delay, arr_delay), km: distance.km(origin, arr_delay) } }
  - chained: { from: graded, key: [tailnum], process: legs.Inherited }
  - daily:   { from: chained, key: [carrier], window: { tumbling: 1d }, aggregate: delays.Summary }
  - out:     { from: daily, sink: parquet, path: out/daily }
";

    #[test]
    fn reads_the_whole_shape() {
        let job = read(FLIGHTS, Path::new("/jobs"), &[]).unwrap();
        assert_eq!((job.name.text.as_str(), job.udfs.len(), job.nodes.len()), ("flights", 2, 5));
        let OperationSpec::With { columns } = &job.nodes[1].operation else { panic!() };
        let texts: Vec<_> = columns.iter().map(|(name, call)| (name.text.as_str(), call.text.as_str())).collect();
        assert_eq!(texts, [("grade", "legs.grade(dep_delay, arr_delay)"), ("km", "distance.km(origin, arr_delay)")]);
        let OperationSpec::Window { window, key, .. } = &job.nodes[3].operation else { panic!() };
        assert_eq!((window.size.text.as_str(), key[0].text.as_str()), ("1d", "carrier"));
    }

    #[test]
    fn set_wins_over_the_file() {
        let set = [
            ("bundle.size".into(), "7".into()),
            ("udfs.legs.timeout".into(), "1s".into()),
            ("nodes.out.path".into(), "x".into()),
        ];
        let mut job = read(FLIGHTS, Path::new("."), &set).unwrap();
        assert_eq!(job.config.unsigned("bundle.size"), Ok(Some(7)));
        assert!(job.udfs[0].options.contains("timeout"));
        let problems = read(FLIGHTS, Path::new("."), &[("udfs.leg.timeout".into(), "1s".into())]).unwrap_err();
        assert_eq!(problems[0].to_string(), "--set udfs.leg.timeout: no UDF is called \"leg\"");
    }

    fn problems(text: &str) -> Vec<String> {
        let problems = read(text, Path::new("."), &[]).unwrap_err();
        problems.iter().map(|problem| format!("{} {problem}", problem.at)).collect()
    }

    #[test]
    fn says_where_the_shape_is_wrong() {
        let head = "name: x\npipeline:\n";
        assert_eq!(
            problems(&format!("{head}  - a: {{ from: b }}\n  - c: {{ from: a, map: f.g, filter: f.h }}\n")),
            ["4:5 node \"c\" has map and filter: make them nodes of their own"]
        );
        assert_eq!(
            problems(&format!("{head}  - a: {{ from: b, aggregate: f.g }}\n")),
            ["3:5 node \"a\" has an aggregate and no window: add `window: { tumbling: 1h }`"]
        );
        assert_eq!(
            problems(&format!("{head}  - a: {{ from: b, map: f.g, kay: [c] }}\n")),
            ["3:29 node \"a\": kay: unknown key; did you mean \"key\"?"]
        );
        assert_eq!(
            problems("name: x\npipeline: 5\n"),
            ["2:11 pipeline: is 5; a list of nodes, each `- name: { … }`, is wanted"]
        );
        assert_eq!(problems("- x\n"), ["1:1 a job is a map with name, udfs and pipeline, not a list of 1"]);
    }

    #[test]
    fn bad_yaml_has_a_line() {
        let problem = &read("name: x\nudfs: { a: [1, 2\npipeline:\n", Path::new("."), &[]).unwrap_err()[0];
        assert!(matches!(problem.kind, ProblemKind::Yaml(_)), "{problem}");
        assert!(problem.at.line >= 2, "{:?}", problem.at);
    }
}
