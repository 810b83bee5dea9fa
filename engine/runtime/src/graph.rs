//! The validated job: a directed acyclic graph in which every name, type and function is known to exist.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, SchemaRef};
use wasmill_host::{
    Binding, Capabilities, HostError, Kind, Limits, Loaded, Resource, Setup, UdfHost, UdfInstance, UdfModule,
};

use crate::config::Config;
use crate::connector::{Sink, Source};
use crate::spec::{JobSpec, OnError};

/// Index into [`JobGraph::nodes`].
pub type NodeId = usize;

/// Immutable, and only made by [`crate::validate::validate`]. Nodes stand in topological order.
#[derive(Debug, Clone)]
pub struct JobGraph {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) nodes: Vec<Node>,
    pub(crate) dead_letters: Option<Arc<dyn Sink>>,
    /// What it was made of.
    pub(crate) spec: Arc<JobSpec>,
}

impl JobGraph {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) name: String,
    /// Under which checkpoints know it.
    pub(crate) id: String,
    pub(crate) inputs: Vec<(NodeId, Exchange)>,
    pub(crate) operation: Operation,
    /// What comes out; for a sink, what goes in.
    pub(crate) schema: SchemaRef,
    pub(crate) parallelism: usize,
}

impl Node {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn parallelism(&self) -> usize {
        self.parallelism
    }

    pub fn inputs(&self) -> &[(NodeId, Exchange)] {
        &self.inputs
    }

    /// For a person: what the node does.
    pub fn describe(&self) -> String {
        match &self.operation {
            Operation::Source { .. } => "source".into(),
            Operation::With { columns } => {
                let calls = columns.iter().map(|(_, call)| call.title()).collect::<Vec<_>>();
                format!("with {}", calls.join(", "))
            }
            Operation::Select { .. } => "select".into(),
            Operation::Rows { call, .. } => format!("{} {}", call.kind, call.title()),
            Operation::Filter { call, .. } => format!("filter {}", call.title()),
            Operation::Window { call, .. } => format!("window aggregate {}", call.title()),
            Operation::Union => "union".into(),
            Operation::Sink { sink } => format!("sink {}", sink.location()),
        }
    }
}

/// How rows get from one node's subtasks to the next one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// Subtask i to subtask i; the two are one task.
    Forward,
    /// By the key group of these columns. Order is kept per key.
    Hash(Vec<usize>),
    /// Batches in turn.
    Rebalance,
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Source {
        source: Arc<dyn Source>,
        watermark: Option<Watermark>,
        on_error: OnError,
    },
    With {
        columns: Vec<(ColumnPlace, BoundCall)>,
    },
    Select {
        columns: Vec<usize>,
    },
    /// map, flat map, process, reduce: rows out replace the row in.
    Rows {
        call: BoundCall,
        key: Vec<usize>,
    },
    Filter {
        call: BoundCall,
        key: Vec<usize>,
    },
    Window {
        call: BoundCall,
        key: Vec<usize>,
        window: TumblingWindow,
    },
    Union,
    Sink {
        sink: Arc<dyn Sink>,
    },
}

impl Operation {
    /// The columns of the key, of an operation that can have one.
    pub(crate) fn key(&self) -> Option<&[usize]> {
        match self {
            Operation::Rows { key, .. } | Operation::Filter { key, .. } | Operation::Window { key, .. } => Some(key),
            _ => None,
        }
    }
}

/// Where a `with` puts a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnPlace {
    Replace(usize),
    Append,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermark {
    pub column: usize,
    pub delay_ms: i64,
}

/// Window of a time: start = t − floormod(t − offset, size), end = start + size, as in Flink. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TumblingWindow {
    pub size_ms: i64,
    pub offset_ms: i64,
}

impl TumblingWindow {
    /// `None` where start or end would pass the ends of i64.
    pub fn start(self, time: i64) -> Option<i64> {
        let into = (i128::from(time) - i128::from(self.offset_ms)).rem_euclid(i128::from(self.size_ms));
        let start = i64::try_from(i128::from(time) - into).ok()?;
        start.checked_add(self.size_ms)?;
        Some(start)
    }
}

/// A loaded UDF file with what the job grants it.
#[derive(Clone)]
pub(crate) struct Udf {
    pub name: String,
    pub path: PathBuf,
    /// XXH3 of the file as it was loaded, 128 bits.
    pub hash: u128,
    pub module: UdfModule,
    pub functions: Arc<[wasmill_host::FunctionDeclaration]>,
    pub limits: Limits,
    pub capabilities: Capabilities,
    pub resources: Vec<Resource>,
    pub parameters: Vec<(String, String)>,
    pub on_error: OnError,
}

impl std::fmt::Debug for Udf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Udf").field("name", &self.name).field("path", &self.path).finish_non_exhaustive()
    }
}

/// A function with its arguments taken from the columns of one node's input.
#[derive(Debug, Clone)]
pub(crate) struct BoundCall {
    pub udf: Arc<Udf>,
    pub kind: Kind,
    pub arguments: Vec<BoundArgument>,
    pub binding: Binding,
    pub loaded: Loaded,
}

impl BoundCall {
    /// `legs.grade`.
    pub fn title(&self) -> String {
        format!("{}.{}", self.udf.name, self.binding.function)
    }

    pub fn instantiate<H: UdfHost>(&self, place: &Place, host: H) -> Result<UdfInstance<H>, HostError> {
        let setup = Setup {
            job: place.job.clone(),
            operator: place.node.clone(),
            subtask: u32::try_from(place.subtask).unwrap_or(u32::MAX),
            parallelism: u32::try_from(place.parallelism).unwrap_or(u32::MAX),
            bindings: vec![self.binding.clone()],
            resources: self.udf.resources.clone(),
        };
        self.udf.module.instantiate(setup, self.udf.limits.clone(), self.udf.capabilities, host)
    }
}

/// Where in the job an instance works.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub job: String,
    pub node: String,
    pub subtask: usize,
    pub parallelism: usize,
}

/// What a UDF's argument is made of.
#[derive(Debug, Clone)]
pub(crate) enum BoundArgument {
    /// A column, turned into `cast` where the UDF wants a wider type.
    Column { index: usize, cast: Option<DataType> },
    /// The same value for every row: an array of one.
    Literal(ArrayRef),
    /// A row of columns.
    Row { fields: Vec<(Field, BoundArgument)> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_start_as_in_flink() {
        let day = TumblingWindow { size_ms: 86_400_000, offset_ms: 0 };
        assert_eq!(day.start(0), Some(0));
        assert_eq!(day.start(-1), Some(-86_400_000));
        assert_eq!(day.start(86_399_999), Some(0));
        let shifted = TumblingWindow { size_ms: 5, offset_ms: -2 };
        assert_eq!(shifted.start(2), Some(-2));
        assert_eq!(shifted.start(3), Some(3));
        assert_eq!(day.start(i64::MAX), None);
        assert_eq!(day.start(i64::MIN), None);
    }
}
