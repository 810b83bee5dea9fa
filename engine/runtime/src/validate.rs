//! From a [`JobSpec`] to a [`JobGraph`]: every name, type and function is looked up, every UDF is opened once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::datatypes::Schema;
use wasmill_host::Kind;

use self::node::{NodeContext, declared_result};
use crate::config::{Config, StateBackend};
use crate::connector::{ConnectorContext, ConnectorRegistry, Sink};
use crate::dead_letter::LETTERS;
use crate::error::{Problem, ProblemKind};
use crate::graph::{BoundCall, ColumnPlace, Exchange, JobGraph, Node, NodeId, Operation, Udf};
use crate::spec::{ConnectorSpec, Endpoint, JobSpec, NodeSpec, OnError, OperationSpec};
use crate::udf_file::{Environment, Loader};
use crate::value::{Location, Name, nearest};

mod node;
pub mod swap;

/// Checks all of a job and runs nothing of it, but that each UDF is loaded and opened.
/// Reports everything that is wrong, not just the first.
pub fn validate(
    spec: &JobSpec,
    environment: &Environment,
    connectors: &ConnectorRegistry,
) -> Result<JobGraph, Vec<Problem>> {
    let (mut config, errors) = Config::read(spec.config.clone());
    if let StateBackend::Disk { dir: Some(dir), .. } = &mut config.state_backend {
        *dir = spec.base.join(&*dir);
    }
    let option = |error: crate::value::OptionError| Problem::new(error.at, ProblemKind::Option { owner: None, error });
    let mut problems: Vec<Problem> = errors.into_iter().map(option).collect();
    let udfs = load_udfs(spec, environment, &mut problems);
    let order = order(spec, &mut problems);
    let mut validator = Validator { spec, connectors, config, udfs, nodes: Vec::new(), ids: BTreeMap::new(), problems };
    for index in order {
        validator.node(&spec.nodes[index]);
    }
    validator.unread();
    let dead_letters = validator.dead_letters();
    validator.claims(dead_letters.as_ref());
    validator.checkpoints(dead_letters.as_ref());
    let Validator { config, nodes, mut problems, .. } = validator;
    let valid = problems.is_empty();
    problems.retain(|problem| !matches!(problem.kind, ProblemKind::NotLoaded { .. }));
    match valid {
        true => {
            Ok(JobGraph { name: spec.name.text.clone(), config, nodes, dead_letters, spec: Arc::new(spec.clone()) })
        }
        false => Err(problems),
    }
}

/// `None` stands for a UDF that is declared and could not be loaded: calls of it are not reported once more.
fn load_udfs(
    spec: &JobSpec,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Option<Arc<Udf>>> {
    let mut loader = Loader::new(environment, &spec.base);
    let mut udfs = BTreeMap::new();
    for udf in &spec.udfs {
        if udfs.contains_key(&udf.name.text) {
            let kind = ProblemKind::Duplicate { what: "UDF", name: udf.name.text.clone(), first: Location::NONE };
            problems.push(Problem::new(udf.name.at, kind));
            continue;
        }
        if udf.unreadable {
            udfs.insert(udf.name.text.clone(), None);
            continue;
        }
        let loaded = match loader.load(udf) {
            Ok(udf) => Some(Arc::new(udf)),
            Err(more) => {
                problems.extend(more);
                None
            }
        };
        udfs.insert(udf.name.text.clone(), loaded);
    }
    udfs
}

/// Two nodes that checkpoints could not tell apart, where one of them has an `id`.
fn one_by_id(spec: &JobSpec, problems: &mut Vec<Problem>) {
    for node in &spec.nodes {
        let Some(id) = &node.id else { continue };
        let same = |other: &&NodeSpec| !std::ptr::eq(*other, node) && other.known_as().text == id.text;
        if let Some(other) = spec.nodes.iter().find(same) {
            let (node, other, id) = (node.name.text.clone(), other.name.text.clone(), id.clone());
            problems.push(Problem::new(id.at, ProblemKind::SharedId { node, other, id: id.text }));
        }
    }
}

/// Indices of the nodes in an order in which every node stands behind those it reads from (Kahn's algorithm).
/// Nodes that read from nowhere, are called twice or go in circles are reported and left out.
fn order(spec: &JobSpec, problems: &mut Vec<Problem>) -> Vec<usize> {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    let mut usable = vec![true; spec.nodes.len()];
    for (index, node) in spec.nodes.iter().enumerate() {
        if let Some(&first) = by_name.get(node.name.text.as_str()) {
            let first = spec.nodes[first].name.at;
            let kind = ProblemKind::Duplicate { what: "node", name: node.name.text.clone(), first };
            problems.push(Problem::new(node.name.at, kind));
            usable[index] = false;
        } else {
            by_name.insert(&node.name.text, index);
        }
    }
    one_by_id(spec, problems);
    for node in &spec.nodes {
        for from in &node.from {
            if !by_name.contains_key(from.text.as_str()) {
                let near = nearest(&from.text, by_name.keys().copied().filter(|name| *name != node.name.text));
                let near = near.map(str::to_owned);
                let kind = ProblemKind::Dangling { node: node.name.text.clone(), from: from.text.clone(), near };
                problems.push(Problem::new(from.at, kind));
            }
        }
    }
    let inputs =
        |index: usize| spec.nodes[index].from.iter().filter_map(|from| by_name.get(from.text.as_str()).copied());
    let mut waiting: Vec<usize> = (0..spec.nodes.len()).map(|index| inputs(index).count()).collect();
    let mut ready: VecDeque<usize> = (0..spec.nodes.len()).filter(|&index| waiting[index] == 0).collect();
    let mut order = Vec::new();
    while let Some(index) = ready.pop_front() {
        order.push(index);
        for (reader, left) in waiting.iter_mut().enumerate() {
            let times = inputs(reader).filter(|&input| input == index).count();
            if times > 0 {
                *left -= times;
                if *left == 0 {
                    ready.push_back(reader);
                }
            }
        }
    }
    let mut circle: Vec<usize> = (0..spec.nodes.len()).filter(|index| !order.contains(index)).collect();
    // Nodes behind a circle wait for it too, and are not part of it.
    while let Some(behind) =
        circle.iter().position(|node| !circle.iter().any(|&other| inputs(other).any(|input| input == *node)))
    {
        circle.remove(behind);
    }
    if let Some(&first) = circle.first() {
        let nodes = circle.iter().map(|&index| spec.nodes[index].name.text.clone()).collect();
        problems.push(Problem::new(spec.nodes[first].name.at, ProblemKind::Cycle { nodes }));
    }
    order.retain(|&index| usable[index]);
    order
}

struct Validator<'a> {
    spec: &'a JobSpec,
    connectors: &'a ConnectorRegistry,
    config: Config,
    udfs: BTreeMap<String, Option<Arc<Udf>>>,
    nodes: Vec<Node>,
    /// Only nodes that turned out well: what reads from another is not checked, so that one mistake is one message.
    ids: BTreeMap<String, NodeId>,
    problems: Vec<Problem>,
}

impl Validator<'_> {
    fn problem(&mut self, at: Location, kind: ProblemKind) {
        self.problems.push(Problem::new(at, kind));
    }

    fn node(&mut self, spec: &NodeSpec) {
        if matches!(spec.operation, OperationSpec::Unreadable) {
            return;
        }
        let inputs: Option<Vec<NodeId>> = spec.from.iter().map(|from| self.ids.get(&from.text).copied()).collect();
        if let Err(kind) = self.inputs_fit(spec) {
            return self.problem(spec.name.at, kind);
        }
        let Some(inputs) = inputs else { return self.without_input(spec) };
        for (input, from) in inputs.iter().zip(&spec.from) {
            if matches!(self.nodes[*input].operation, Operation::Sink { .. }) {
                let kind = ProblemKind::FromSink { node: spec.name.text.clone(), from: from.text.clone() };
                return self.problem(from.at, kind);
            }
        }
        match self.built(spec, &inputs) {
            Ok(node) => {
                self.ids.insert(spec.name.text.clone(), self.nodes.len());
                self.nodes.push(node);
            }
            Err(problems) => self.problems.extend(problems),
        }
    }

    /// Checks what can be checked of a node whose input is wrong already.
    fn without_input(&mut self, spec: &NodeSpec) {
        let OperationSpec::Sink { sink: Endpoint::Named(sink) } = &spec.operation else { return };
        let problem = self.named_sink(&spec.name, sink).err();
        self.problems.extend(problem);
    }

    fn inputs_fit(&self, spec: &NodeSpec) -> Result<(), ProblemKind> {
        let (fits, wanted) = match &spec.operation {
            OperationSpec::Source { .. } => (spec.from.is_empty(), "a source has none: remove `from`"),
            OperationSpec::Union => (!spec.from.is_empty(), "a union has one or more"),
            _ => (spec.from.len() == 1, "it needs exactly one: `from: node`; join several by a union before"),
        };
        if fits {
            return Ok(());
        }
        Err(ProblemKind::Inputs { node: spec.name.text.clone(), got: spec.from.len(), wanted })
    }

    fn built(&mut self, spec: &NodeSpec, inputs: &[NodeId]) -> Result<Node, Vec<Problem>> {
        let name = &spec.name.text;
        let one = |problem: Problem| vec![problem];
        let parallelism = self.parallelism(spec, inputs).map_err(one)?;
        let input = inputs.first().map(|&input| Arc::clone(&self.nodes[input].schema));
        let input = input.unwrap_or_else(|| Arc::new(Schema::empty()));
        let result = declared_result(spec).map_err(one)?;
        let node =
            NodeContext { validator: self, name: &spec.name, input: &input, parallelism, result, states: &spec.states };
        node.states_fit(&spec.operation).map_err(one)?;
        let (operation, schema) = match &spec.operation {
            OperationSpec::Source { source, watermark, on_error } => {
                node.source(source, watermark.as_ref(), *on_error).map_err(one)?
            }
            OperationSpec::With { columns } => node.with(columns)?,
            OperationSpec::Select { columns } => node.select(columns)?,
            OperationSpec::Map { call, key } => {
                let key = node.key(key)?;
                let call = node.call(call, &key, &[Kind::Map, Kind::Scalar], "a map function").map_err(one)?;
                node.state_has_key(&call, &key).map_err(one)?;
                let schema = node.rows_of(&call).map_err(one)?;
                (Operation::Rows { call, key }, schema)
            }
            OperationSpec::FlatMap { call, key } => {
                let key = node.key(key)?;
                let call = node.call(call, &key, &[Kind::Table], "a table (flat map) function").map_err(one)?;
                node.state_has_key(&call, &key).map_err(one)?;
                let schema = node.rows_of(&call).map_err(one)?;
                (Operation::Rows { call, key }, schema)
            }
            OperationSpec::Filter { call, key } => {
                let key = node.key(key)?;
                let call = node.call(call, &key, &[Kind::Filter, Kind::Scalar], "a filter").map_err(one)?;
                node.state_has_key(&call, &key).map_err(one)?;
                node.is_bool(&call).map_err(one)?;
                (Operation::Filter { call, key }, Arc::clone(&input))
            }
            OperationSpec::Process { call, key } => {
                let key = node.key(key)?;
                let call = node.call(call, &key, &[Kind::Process], "a process function").map_err(one)?;
                node.state_has_key(&call, &key).map_err(one)?;
                let schema = node.rows_of(&call).map_err(one)?;
                (Operation::Rows { call, key }, schema)
            }
            OperationSpec::Reduce { call, key } => {
                let key = node.key(key)?;
                let call = node.call(call, &key, &[Kind::Reduce], "a reduce function").map_err(one)?;
                let schema = node.rows_of(&call).map_err(one)?;
                (Operation::Rows { call, key }, schema)
            }
            OperationSpec::Window { call, key, window } => {
                let key = node.key(key)?;
                let window = node.window(window).map_err(one)?;
                let call = node.call(call, &key, &[Kind::Aggregate], "an aggregate function").map_err(one)?;
                let schema = node.window_rows(&call, &key).map_err(one)?;
                (Operation::Window { call, key, window }, schema)
            }
            OperationSpec::Union => node.union(inputs).map_err(one)?,
            OperationSpec::Sink { sink } => (node.sink(sink).map_err(one)?, Arc::clone(&input)),
            OperationSpec::Unreadable => return Err(Vec::new()),
        };
        let inputs = inputs.iter().map(|&id| (id, self.exchange(id, &operation, parallelism))).collect();
        Ok(Node { name: name.clone(), id: spec.known_as().text.clone(), inputs, operation, schema, parallelism })
    }

    /// What the node says; else that of its input; else the job's. Without a key there is one group, on one subtask.
    fn parallelism(&self, spec: &NodeSpec, inputs: &[NodeId]) -> Result<usize, Problem> {
        let ungrouped = match &spec.operation {
            OperationSpec::Reduce { key, .. } | OperationSpec::Window { key, .. } => key.is_empty(),
            _ => false,
        };
        let keyed = match &spec.operation {
            OperationSpec::Map { key, .. }
            | OperationSpec::FlatMap { key, .. }
            | OperationSpec::Filter { key, .. }
            | OperationSpec::Reduce { key, .. }
            | OperationSpec::Window { key, .. }
            | OperationSpec::Process { key, .. } => !key.is_empty(),
            _ => false,
        };
        let wrong =
            |at, message: String| Err(Problem::new(at, ProblemKind::Node { node: spec.name.text.clone(), message }));
        let max = self.config.max_parallelism.unwrap_or(1024);
        match spec.parallelism {
            Some((0, at)) => wrong(at, "parallelism is 0; 1 or more is possible".into()),
            Some((parallelism, at)) if ungrouped && parallelism > 1 => wrong(
                at,
                format!("parallelism is {parallelism}, and without a key there is one group of rows: add `key`"),
            ),
            Some((parallelism, at)) => match usize::try_from(parallelism) {
                Ok(parallelism) if parallelism <= max.min(1024) => Ok(parallelism),
                _ => wrong(at, format!("parallelism is {parallelism}; at most {} is possible", max.min(1024))),
            },
            None if ungrouped => Ok(1),
            None if keyed => Ok(self.config.parallelism.min(max)),
            None => {
                Ok(inputs.iter().map(|&input| self.nodes[input].parallelism).max().unwrap_or(self.config.parallelism))
            }
        }
    }

    fn exchange(&self, input: NodeId, operation: &Operation, parallelism: usize) -> Exchange {
        match operation {
            Operation::Rows { key, .. } | Operation::Filter { key, .. } | Operation::Window { key, .. }
                if !key.is_empty() && parallelism > 1 =>
            {
                Exchange::Hash(key.clone())
            }
            _ if self.nodes[input].parallelism == parallelism => Exchange::Forward,
            _ => Exchange::Rebalance,
        }
    }

    fn unread(&mut self) {
        if self.spec.nodes.iter().any(|node| matches!(node.operation, OperationSpec::Unreadable)) {
            // It may be the one that reads them.
            return;
        }
        let read: BTreeSet<&str> =
            self.spec.nodes.iter().flat_map(|node| node.from.iter().map(|from| from.text.as_str())).collect();
        let unread = |node: &&NodeSpec| {
            !matches!(node.operation, OperationSpec::Sink { .. }) && !read.contains(node.name.text.as_str())
        };
        let problems: Vec<Problem> = self
            .spec
            .nodes
            .iter()
            .filter(unread)
            .map(|node| Problem::new(node.name.at, ProblemKind::Unread { node: node.name.text.clone() }))
            .collect();
        self.problems.extend(problems);
        if !self.spec.nodes.iter().any(|node| matches!(node.operation, OperationSpec::Source { .. })) {
            self.problem(Location::NONE, ProblemKind::Empty("source"));
        }
    }

    /// With checkpoints, every sink must be able to take part in them.
    fn checkpoints(&mut self, dead_letters: Option<&Arc<dyn Sink>>) {
        if self.config.checkpoint.dir.is_none() {
            return;
        }
        let nodes = self.nodes.iter().filter_map(|node| match &node.operation {
            Operation::Sink { sink } => Some((node.name.as_str(), sink)),
            _ => None,
        });
        let letters = dead_letters.map(|sink| (LETTERS, sink));
        let refused =
            nodes.chain(letters).filter_map(|(node, sink)| Some((node.to_owned(), sink.refuse_checkpoints()?)));
        for (node, message) in refused.collect::<Vec<_>>() {
            let at =
                self.spec.nodes.iter().find(|spec| spec.name.text == node).map_or(Location::NONE, |spec| spec.name.at);
            self.problem(at, ProblemKind::Node { node, message });
        }
    }

    /// Two sinks on one folder would overwrite each other's files.
    fn claims(&mut self, dead_letters: Option<&Arc<dyn Sink>>) {
        let mut claims: BTreeMap<String, String> = BTreeMap::new();
        let sinks = self.nodes.iter().filter_map(|node| match &node.operation {
            Operation::Sink { sink } => Some((node.name.clone(), sink)),
            _ => None,
        });
        let sinks = sinks.chain(dead_letters.map(|sink| ("dead-letters".to_owned(), sink)));
        let mut shared = Vec::new();
        for (node, sink) in sinks {
            let Some(target) = sink.claim() else { continue };
            if let Some(other) = claims.insert(target.clone(), node.clone()) {
                shared.push(ProblemKind::SharedTarget { node: other, other: node, target });
            }
        }
        shared.into_iter().for_each(|kind| self.problem(Location::NONE, kind));
    }

    fn dead_letters(&mut self) -> Option<Arc<dyn Sink>> {
        let needs = |node: &Node| match &node.operation {
            Operation::Source { on_error, .. } => *on_error == OnError::DeadLetter,
            operation => calls(operation).any(|call| call.udf.on_error == OnError::DeadLetter),
        };
        let owner = Name::from("dead-letters");
        match (&self.spec.dead_letters, self.nodes.iter().find(|node| needs(node))) {
            (None, Some(node)) => {
                let message = "on-error is dead-letter, and the job has no dead letters: add `dead-letters: { sink: jsonl, path: … }`";
                let kind = ProblemKind::Node { node: node.name.clone(), message: message.into() };
                self.problem(Location::NONE, kind);
                None
            }
            (None, None) => None,
            (Some(spec), _) => {
                let sink = self.named_sink(&owner, spec);
                let accepted = sink.and_then(|sink| match sink.accept(&crate::dead_letter::schema()) {
                    Ok(()) => Ok(sink),
                    Err(error) => Err(connector_problem(&owner, error)),
                });
                accepted.map_err(|problem| self.problems.push(problem)).ok()
            }
        }
    }

    fn named_sink(&self, owner: &Name, spec: &ConnectorSpec) -> Result<Arc<dyn Sink>, Problem> {
        let mut options = spec.options.clone();
        let context = ConnectorContext { base: &self.spec.base, options: &mut options };
        let sink = self.connectors.sink(&spec.connector.text, context);
        let sink = sink.map_err(|error| connector_problem(&located(owner, &spec.connector), error))?;
        finished(owner, options)?;
        Ok(sink)
    }
}

/// The calls of an operation.
pub(crate) fn calls(operation: &Operation) -> impl Iterator<Item = &BoundCall> {
    let (many, one): (&[(ColumnPlace, BoundCall)], Option<&BoundCall>) = match operation {
        Operation::With { columns } => (columns, None),
        Operation::Rows { call, .. } | Operation::Filter { call, .. } | Operation::Window { call, .. } => {
            (&[], Some(call))
        }
        _ => (&[], None),
    };
    many.iter().map(|(_, call)| call).chain(one)
}

fn located(owner: &Name, connector: &Name) -> Name {
    let at = if connector.at.is_known() { connector.at } else { owner.at };
    Name { text: owner.text.clone(), at }
}

fn connector_problem(owner: &Name, error: crate::connector::ConnectorError) -> Problem {
    Problem::new(owner.at, ProblemKind::Connector { node: owner.text.clone(), error })
}

fn finished(owner: &Name, options: crate::value::Options) -> Result<(), Problem> {
    match options.finish().into_iter().next() {
        None => Ok(()),
        Some(error) => Err(Problem::new(error.at, ProblemKind::Option { owner: Some(owner.text.clone()), error })),
    }
}
