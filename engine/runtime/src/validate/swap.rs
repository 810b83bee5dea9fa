//! A job that runs, with another version of a UDF: the same graph but for the calls of that one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Fields;

use super::node::columns_text;
use super::{Validator, calls};
use crate::bind::text;
use crate::checkpoint::restore::can_become;
use crate::connector::ConnectorRegistry;
use crate::control::with_causes;
use crate::error::{Problem, list};
use crate::graph::{BoundCall, JobGraph, Node, NodeId, Operation, Udf};
use crate::udf_file::{Environment, Loader};
use crate::value::Value;

/// Why a file cannot take the place of a UDF's.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    #[error("no UDF is called \"{udf}\"; there are {}", list(.known))]
    Unknown { udf: String, known: Vec<String> },
    #[error("no node calls udf \"{udf}\": there is nothing to swap")]
    Unused { udf: String },
    #[error("udf \"{udf}\": {} is no text in UTF-8, as which a job names its files: rename it", .path.display())]
    Path { udf: String, path: PathBuf },
    /// The file cannot be loaded, or its functions cannot be called as the job calls them.
    #[error("{}", .0.iter().map(|problem| with_causes(&problem.kind)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
    #[error("node \"{node}\" would give {is}, and gives {was}: what takes the place of a UDF gives the same types")]
    Columns { node: String, was: String, is: String },
    #[error("node \"{node}\": {function} would be of kind {is}, and is of kind {was}")]
    Kind { node: String, function: String, was: String, is: String },
    #[error("node \"{node}\" has the state \"{state}\", and {function} would have none of that name")]
    NoState { node: String, function: String, state: String },
    #[error(
        "node \"{node}\": state \"{state}\" would be {is}, and is {was}: a state can only get more fields, which may be null"
    )]
    State { node: String, state: String, was: String, is: String },
}

/// `graph` with the file at `path` for the UDF called `udf`. Its other settings are those of the job, a relative `path` starts in the
/// job's folder. Sources and sinks are those of `graph`.
///
/// # Errors
/// [`SwapError`], where the job could not go on as it is, with its state.
pub fn swap(graph: &JobGraph, udf: &str, path: &Path, environment: &Environment) -> Result<JobGraph, SwapError> {
    let mut udfs: BTreeMap<String, Option<Arc<Udf>>> = BTreeMap::new();
    for call in graph.nodes.iter().flat_map(|node| calls(&node.operation)) {
        udfs.insert(call.udf.name.clone(), Some(Arc::clone(&call.udf)));
    }
    let swapped = load(graph, udf, path, environment)?;
    if udfs.insert(udf.to_owned(), Some(Arc::new(swapped))).is_none() {
        return Err(SwapError::Unused { udf: udf.to_owned() });
    }
    let mut validator = Validator {
        spec: &graph.spec,
        // Only nodes with functions are built.
        connectors: &ConnectorRegistry::default(),
        config: graph.config.clone(),
        udfs,
        nodes: graph.nodes.clone(),
        ids: graph.nodes.iter().enumerate().map(|(id, node)| (node.name.clone(), id)).collect(),
        problems: Vec::new(),
    };
    let mut swapped = graph.clone();
    let mut problems = Vec::new();
    for spec in &graph.spec.nodes {
        let Some(&id) = validator.ids.get(&spec.name.text) else { continue };
        let node = &graph.nodes[id];
        if !calls(&node.operation).any(|call| call.udf.name == udf) {
            continue;
        }
        let inputs: Vec<NodeId> = node.inputs.iter().map(|(input, _)| *input).collect();
        match validator.built(spec, &inputs) {
            Ok(new) => {
                fits(node, &new)?;
                swapped.nodes[id].operation = new.operation;
            }
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(swapped) } else { Err(SwapError::Invalid(problems)) }
}

fn load(graph: &JobGraph, udf: &str, path: &Path, environment: &Environment) -> Result<Udf, SwapError> {
    let specs = &graph.spec.udfs;
    let Some(spec) = specs.iter().find(|spec| spec.name.text == udf) else {
        let known = specs.iter().map(|spec| spec.name.text.clone()).collect();
        return Err(SwapError::Unknown { udf: udf.to_owned(), known });
    };
    let Some(text) = path.to_str() else {
        return Err(SwapError::Path { udf: udf.to_owned(), path: path.to_owned() });
    };
    let mut spec = spec.clone();
    spec.options.set("path", Value::text(text));
    Loader::new(environment, &graph.spec.base).load(&spec).map_err(SwapError::Invalid)
}

/// Can the node that was `old` be `new` from one row to the next?
fn fits(old: &Node, new: &Node) -> Result<(), SwapError> {
    let node = &old.name;
    if old.schema != new.schema {
        let (was, is) = (old.schema.fields(), new.schema.fields());
        let (was, is) = (columns_beyond(was, is), columns_beyond(is, was));
        return Err(SwapError::Columns { node: node.clone(), was, is });
    }
    // A column is computed in any way; what else a node does goes by its kind.
    let any_kind = matches!(old.operation, Operation::With { .. } | Operation::Filter { .. });
    for (was, is) in calls(&old.operation).zip(calls(&new.operation)) {
        if was.kind != is.kind && !any_kind {
            let (was, is, function) = (was.kind.to_string(), is.kind.to_string(), is.title());
            return Err(SwapError::Kind { node: node.clone(), function, was, is });
        }
        states_fit(node, was, is)?;
    }
    Ok(())
}

/// Those of `fields` that `others` have not; all of them, if they only stand in another order.
fn columns_beyond(fields: &Fields, others: &Fields) -> String {
    let beyond: Fields = fields.iter().filter(|field| others.iter().all(|other| other != *field)).cloned().collect();
    match (beyond.is_empty(), fields.len() == others.len()) {
        (true, true) => columns_text(fields),
        (true, false) => "nothing more".to_owned(),
        (false, _) => columns_text(&beyond),
    }
}

/// Can the new function go on with the states that the old one has?
fn states_fit(node: &str, old: &BoundCall, new: &BoundCall) -> Result<(), SwapError> {
    for was in &old.loaded.states {
        let Some(is) = new.loaded.states.iter().find(|state| state.name == was.name) else {
            let (function, state) = (new.title(), was.name.clone());
            return Err(SwapError::NoState { node: node.to_owned(), function, state });
        };
        if !can_become(&was.data_type, &is.data_type) {
            let (was_type, is_type) = (text(&was.data_type, false), text(&is.data_type, false));
            let (node, state) = (node.to_owned(), was.name.clone());
            return Err(SwapError::State { node, state, was: was_type, is: is_type });
        }
    }
    Ok(())
}
