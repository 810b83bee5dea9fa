//! What a person says about a job, from YAML or from Rust, before anything of it is checked.
//!
//! [`crate::validate::validate`] turns a [`JobSpec`] into a [`crate::graph::JobGraph`]. The same job in Rust:
//!
//! ```
//! use wasmill_runtime::spec::{JobSpec, NodeSpec, UdfSpec};
//!
//! let job = JobSpec::new("flights", ".")
//!     .udf(UdfSpec::new("legs", "udfs/legs.py"))
//!     .node(NodeSpec::source("flights", "parquet", [("path", "data/flights.parquet")]).watermark("sched_dep", "22h"))
//!     .node(NodeSpec::with("graded", "flights", [("grade", "legs.grade(dep_delay, arr_delay)")]))
//!     .node(NodeSpec::process("chained", "graded", "legs.Inherited").key(["tailnum"]))
//!     .node(NodeSpec::sink("out", "chained", "jsonl", [("path", "out/chained")]));
//! assert_eq!(job.nodes.len(), 4);
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use wasmill_host::Access;

use crate::connector::{Sink, Source};
use crate::value::{Location, Name, Options, Value, ValueKind};

/// A whole job as written.
#[derive(Debug, Clone)]
pub struct JobSpec {
    pub name: Name,
    /// Relative paths start here: the folder of the job file.
    pub base: PathBuf,
    pub config: Options,
    pub udfs: Vec<UdfSpec>,
    pub nodes: Vec<NodeSpec>,
    /// Where rows go whose UDF or source says `on-error: dead-letter`.
    pub dead_letters: Option<ConnectorSpec>,
}

/// What becomes of a row whose UDF raised, or that a source could not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The job fails (default).
    #[default]
    Fail,
    /// The row is dropped and counted.
    Skip,
    /// The row goes to the job's dead letters, with error, traceback and position.
    DeadLetter,
}

pub(crate) const ON_ERROR: [(&str, OnError); 3] =
    [("fail", OnError::Fail), ("skip", OnError::Skip), ("dead-letter", OnError::DeadLetter)];

/// A file with functions.
#[derive(Debug, Clone)]
pub struct UdfSpec {
    pub name: Name,
    pub options: Options,
    /// Its options could not be read; the problem is noted, and calls of it are not reported once more.
    pub(crate) unreadable: bool,
}

/// A connector by name, with the options that are its own.
#[derive(Debug, Clone)]
pub struct ConnectorSpec {
    pub connector: Name,
    pub options: Options,
}

/// A source or sink: by name, or built in Rust.
#[derive(Debug)]
pub enum Endpoint<T: ?Sized> {
    Named(ConnectorSpec),
    Built(Arc<T>),
}

impl<T: ?Sized> Clone for Endpoint<T> {
    fn clone(&self) -> Self {
        match self {
            Endpoint::Named(spec) => Endpoint::Named(spec.clone()),
            Endpoint::Built(built) => Endpoint::Built(Arc::clone(built)),
        }
    }
}

#[derive(Debug, Clone)]
pub struct NodeSpec {
    pub name: Name,
    /// Under which checkpoints know the node, so that its name may change; `None`: its name.
    pub id: Option<Name>,
    pub from: Vec<Name>,
    pub operation: OperationSpec,
    pub parallelism: Option<(u64, Location)>,
    /// The type of the function's result, where a Python function does not say it itself.
    pub result: Option<Name>,
    /// What the job wants of the function's states.
    pub states: Vec<StateSpec>,
}

/// What a job wants of a state, against the default of the function.
#[derive(Debug, Clone)]
pub struct StateSpec {
    pub name: Name,
    pub access: Access,
}

#[derive(Debug, Clone)]
pub enum OperationSpec {
    Source {
        source: Endpoint<dyn Source>,
        watermark: Option<WatermarkSpec>,
        on_error: OnError,
    },
    /// Adds columns, or replaces those of the same name.
    With {
        columns: Vec<(Name, Name)>,
    },
    /// Keeps, orders and renames columns: (new name, column).
    Select {
        columns: Vec<(Name, Name)>,
    },
    Map {
        call: Name,
        key: Vec<Name>,
    },
    FlatMap {
        call: Name,
        key: Vec<Name>,
    },
    Filter {
        call: Name,
        key: Vec<Name>,
    },
    Process {
        call: Name,
        key: Vec<Name>,
    },
    Reduce {
        call: Name,
        key: Vec<Name>,
    },
    Window {
        call: Name,
        key: Vec<Name>,
        window: WindowSpec,
    },
    Union,
    Sink {
        sink: Endpoint<dyn Sink>,
    },
    /// Could not be read from the job file; the problem is noted, and what reads from it is not reported once more.
    Unreadable,
}

/// Event time = `column`; rows are out of order by at most `delay` (bounded out-of-orderness).
#[derive(Debug, Clone)]
pub struct WatermarkSpec {
    pub column: Name,
    /// A duration; `0ms` = ascending times.
    pub delay: Name,
}

#[derive(Debug, Clone)]
pub struct WindowSpec {
    /// A duration.
    pub size: Name,
    /// A duration: windows start at multiples of `size` plus this, counted from 1970-01-01T00:00Z.
    pub offset: Option<Name>,
}

impl JobSpec {
    pub fn new(name: &str, base: impl Into<PathBuf>) -> JobSpec {
        JobSpec {
            name: name.into(),
            base: base.into(),
            config: Options::default(),
            udfs: Vec::new(),
            nodes: Vec::new(),
            dead_letters: None,
        }
    }

    /// Sets a configuration key, as `--set key=value` does.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> JobSpec {
        self.config.set(key, Value::scalar(value));
        self
    }

    #[must_use]
    pub fn udf(mut self, udf: UdfSpec) -> JobSpec {
        self.udfs.push(udf);
        self
    }

    #[must_use]
    pub fn node(mut self, node: NodeSpec) -> JobSpec {
        self.nodes.push(node);
        self
    }

    #[must_use]
    pub fn dead_letters<'a>(
        mut self,
        connector: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> JobSpec {
        self.dead_letters = Some(ConnectorSpec { connector: connector.into(), options: options_of(options) });
        self
    }
}

impl UdfSpec {
    /// `path`: a `.wasm` component or a `.py` file.
    pub fn new(name: &str, path: &str) -> UdfSpec {
        UdfSpec { name: name.into(), options: options_of([("path", path)]), unreadable: false }
    }

    /// Sets a key of the `udfs:` section: `on-error`, `memory.max`, `timeout`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> UdfSpec {
        self.options.set(key, Value::scalar(value));
        self
    }

    /// Grants the read-only files at `paths`; the UDF sees each by its file name.
    #[must_use]
    pub fn resources<'a>(mut self, paths: impl IntoIterator<Item = &'a str>) -> UdfSpec {
        let list = ValueKind::List(paths.into_iter().map(Value::text).collect());
        self.options.set("resources", Value { at: Location::NONE, kind: list });
        self
    }
}

impl NodeSpec {
    fn new(name: &str, from: &[&str], operation: OperationSpec) -> NodeSpec {
        let from = from.iter().map(|&from| from.into()).collect();
        NodeSpec { from, ..NodeSpec::named(name.into(), operation) }
    }

    pub(crate) fn named(name: Name, operation: OperationSpec) -> NodeSpec {
        NodeSpec { name, id: None, from: Vec::new(), operation, parallelism: None, result: None, states: Vec::new() }
    }

    /// The [id](NodeSpec::id), or else the name.
    pub(crate) fn known_as(&self) -> &Name {
        self.id.as_ref().unwrap_or(&self.name)
    }

    /// Gives the node an [id](NodeSpec::id).
    #[must_use]
    pub fn id(mut self, id: &str) -> NodeSpec {
        self.id = Some(id.into());
        self
    }

    pub fn source<'a>(name: &str, connector: &str, options: impl IntoIterator<Item = (&'a str, &'a str)>) -> NodeSpec {
        let source = Endpoint::Named(ConnectorSpec { connector: connector.into(), options: options_of(options) });
        NodeSpec::new(name, &[], OperationSpec::Source { source, watermark: None, on_error: OnError::Fail })
    }

    pub fn source_built(name: &str, source: Arc<dyn Source>) -> NodeSpec {
        let source = Endpoint::Built(source);
        NodeSpec::new(name, &[], OperationSpec::Source { source, watermark: None, on_error: OnError::Fail })
    }

    pub fn with<'a>(name: &str, from: &str, columns: impl IntoIterator<Item = (&'a str, &'a str)>) -> NodeSpec {
        NodeSpec::new(name, &[from], OperationSpec::With { columns: names_of(columns) })
    }

    pub fn select<'a>(name: &str, from: &str, columns: impl IntoIterator<Item = (&'a str, &'a str)>) -> NodeSpec {
        NodeSpec::new(name, &[from], OperationSpec::Select { columns: names_of(columns) })
    }

    pub fn map(name: &str, from: &str, call: &str) -> NodeSpec {
        NodeSpec::new(name, &[from], OperationSpec::Map { call: call.into(), key: Vec::new() })
    }

    pub fn flat_map(name: &str, from: &str, call: &str) -> NodeSpec {
        NodeSpec::new(name, &[from], OperationSpec::FlatMap { call: call.into(), key: Vec::new() })
    }

    pub fn filter(name: &str, from: &str, call: &str) -> NodeSpec {
        NodeSpec::new(name, &[from], OperationSpec::Filter { call: call.into(), key: Vec::new() })
    }

    pub fn process(name: &str, from: &str, call: &str) -> NodeSpec {
        NodeSpec::new(name, &[from], OperationSpec::Process { call: call.into(), key: Vec::new() })
    }

    pub fn reduce(name: &str, from: &str, call: &str) -> NodeSpec {
        NodeSpec::new(name, &[from], OperationSpec::Reduce { call: call.into(), key: Vec::new() })
    }

    /// An aggregate in tumbling event-time windows of `size` (a duration).
    pub fn tumbling(name: &str, from: &str, size: &str, call: &str) -> NodeSpec {
        let window = WindowSpec { size: size.into(), offset: None };
        NodeSpec::new(name, &[from], OperationSpec::Window { call: call.into(), key: Vec::new(), window })
    }

    pub fn union(name: &str, from: &[&str]) -> NodeSpec {
        NodeSpec::new(name, from, OperationSpec::Union)
    }

    pub fn sink<'a>(
        name: &str,
        from: &str,
        connector: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> NodeSpec {
        let sink = Endpoint::Named(ConnectorSpec { connector: connector.into(), options: options_of(options) });
        NodeSpec::new(name, &[from], OperationSpec::Sink { sink })
    }

    pub fn sink_built(name: &str, from: &str, sink: Arc<dyn Sink>) -> NodeSpec {
        NodeSpec::new(name, &[from], OperationSpec::Sink { sink: Endpoint::Built(sink) })
    }

    /// The key columns of a node with one function; without effect on others.
    #[must_use]
    pub fn key<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> NodeSpec {
        if let OperationSpec::Map { key, .. }
        | OperationSpec::FlatMap { key, .. }
        | OperationSpec::Filter { key, .. }
        | OperationSpec::Process { key, .. }
        | OperationSpec::Reduce { key, .. }
        | OperationSpec::Window { key, .. } = &mut self.operation
        {
            *key = columns.into_iter().map(Name::from).collect();
        }
        self
    }

    /// The event time of a source and how far rows may be out of order; without effect on other nodes.
    #[must_use]
    pub fn watermark(mut self, time: &str, lag: &str) -> NodeSpec {
        if let OperationSpec::Source { watermark, .. } = &mut self.operation {
            *watermark = Some(WatermarkSpec { column: time.into(), delay: lag.into() });
        }
        self
    }

    /// The type that the node's function gives, in the contract's notation: `struct<a: utf8, b: float64?>`.
    #[must_use]
    pub fn result(mut self, result: &str) -> NodeSpec {
        self.result = Some(result.into());
        self
    }

    /// How the function reaches its state `name`, against its own default.
    #[must_use]
    pub fn state_access(mut self, name: &str, access: Access) -> NodeSpec {
        self.states.push(StateSpec { name: name.into(), access });
        self
    }

    #[must_use]
    pub fn parallelism(mut self, parallelism: u64) -> NodeSpec {
        self.parallelism = Some((parallelism, Location::NONE));
        self
    }
}

fn options_of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Options {
    let mut options = Options::default();
    for (key, value) in pairs {
        options.set(key, Value::scalar(value));
    }
    options
}

fn names_of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(Name, Name)> {
    pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}
