//! From a [`JobSpec`] to a [`JobGraph`]: every name, type and function is looked up, every UDF is opened once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use wasmill_host::data_type;
use wasmill_host::{Binding, Kind, LogLevel, UdfHost};

use crate::bind::{Binder, text, unknown_column};
use crate::call;
use crate::config::Config;
use crate::connector::{ConnectorContext, ConnectorRegistry, Sink, Source};
use crate::duration;
use crate::error::{Problem, ProblemKind};
use crate::graph::{
    BoundCall, ColumnPlace, Exchange, JobGraph, Node, NodeId, Operation, Place, TumblingWindow, Udf, Watermark,
};
use crate::spec::{ConnectorSpec, Endpoint, JobSpec, NodeSpec, OnError, OperationSpec, WatermarkSpec, WindowSpec};
use crate::udf_file::{Environment, Loader};
use crate::value::{Location, Name, nearest};

/// Checks all of a job and runs nothing of it, but that each UDF is loaded and opened.
/// Reports everything that is wrong, not just the first.
pub fn validate(
    spec: &JobSpec,
    environment: &Environment,
    connectors: &ConnectorRegistry,
) -> Result<JobGraph, Vec<Problem>> {
    let (config, errors) = Config::read(spec.config.clone());
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
    let Validator { config, nodes, problems, .. } = validator;
    match problems.is_empty() {
        true => Ok(JobGraph { name: spec.name.text.clone(), config, nodes, dead_letters }),
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
    let circle: Vec<usize> = (0..spec.nodes.len()).filter(|index| !order.contains(index)).collect();
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
        let inputs: Option<Vec<NodeId>> = spec.from.iter().map(|from| self.ids.get(&from.text).copied()).collect();
        if let Err(kind) = self.inputs_fit(spec) {
            return self.problem(spec.name.at, kind);
        }
        let Some(inputs) = inputs else { return };
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
        let node = NodeContext { validator: self, name: &spec.name, input: &input, parallelism, result };
        let (operation, schema) = match &spec.operation {
            OperationSpec::Source { source, watermark, on_error } => {
                node.source(source, watermark.as_ref(), *on_error).map_err(one)?
            }
            OperationSpec::With { columns } => node.with(columns)?,
            OperationSpec::Select { columns } => node.select(columns)?,
            OperationSpec::Map { call } => {
                let call = node.call(call, &[], &[Kind::Map, Kind::Scalar], "a map function").map_err(one)?;
                let schema = node.rows_of(&call).map_err(one)?;
                (Operation::Rows { call }, schema)
            }
            OperationSpec::FlatMap { call } => {
                let call = node.call(call, &[], &[Kind::Table], "a table (flat map) function").map_err(one)?;
                let schema = node.rows_of(&call).map_err(one)?;
                (Operation::Rows { call }, schema)
            }
            OperationSpec::Filter { call } => {
                let call = node.call(call, &[], &[Kind::Filter, Kind::Scalar], "a filter").map_err(one)?;
                node.is_bool(&call).map_err(one)?;
                (Operation::Filter { call }, Arc::clone(&input))
            }
            OperationSpec::Process { call, key } => {
                let key = node.key(key)?;
                let call = node.call(call, &key, &[Kind::Process], "a process function").map_err(one)?;
                node.state_has_key(&call, &key).map_err(one)?;
                let schema = node.rows_of(&call).map_err(one)?;
                (Operation::Process { call, key }, schema)
            }
            OperationSpec::Reduce { call, key } => {
                let key = node.key(key)?;
                let call = node.call(call, &key, &[Kind::Reduce], "a reduce function").map_err(one)?;
                let schema = node.rows_of(&call).map_err(one)?;
                (Operation::Reduce { call, key }, schema)
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
        };
        let inputs = inputs.iter().map(|&id| (id, self.exchange(id, &operation, parallelism))).collect();
        Ok(Node { name: name.clone(), inputs, operation, schema, parallelism })
    }

    /// What the node says; else that of its input; else the job's. Without a key there is one group, on one subtask.
    fn parallelism(&self, spec: &NodeSpec, inputs: &[NodeId]) -> Result<usize, Problem> {
        let ungrouped = match &spec.operation {
            OperationSpec::Reduce { key, .. } | OperationSpec::Window { key, .. } => key.is_empty(),
            _ => false,
        };
        let keyed = match &spec.operation {
            OperationSpec::Reduce { key, .. }
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
            Operation::Process { key, .. } | Operation::Reduce { key, .. } | Operation::Window { key, .. }
                if !key.is_empty() && parallelism > 1 =>
            {
                Exchange::Hash(key.clone())
            }
            _ if self.nodes[input].parallelism == parallelism => Exchange::Forward,
            _ => Exchange::Rebalance,
        }
    }

    fn unread(&mut self) {
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
        Operation::Rows { call }
        | Operation::Filter { call }
        | Operation::Process { call, .. }
        | Operation::Reduce { call, .. }
        | Operation::Window { call, .. } => (&[], Some(call)),
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

/// One node on its way.
struct NodeContext<'a> {
    validator: &'a Validator<'a>,
    name: &'a Name,
    input: &'a SchemaRef,
    parallelism: usize,
    /// The result's type that the job declares.
    result: Option<data_type::FieldType>,
}

type Checked = Result<(Operation, SchemaRef), Problem>;

impl NodeContext<'_> {
    fn problem(&self, at: Location, kind: ProblemKind) -> Problem {
        Problem::new(if at.is_known() { at } else { self.name.at }, kind)
    }

    fn message(&self, at: Location, message: String) -> Problem {
        self.problem(at, ProblemKind::Node { node: self.name.text.clone(), message })
    }

    fn source(&self, source: &Endpoint<dyn Source>, watermark: Option<&WatermarkSpec>, on_error: OnError) -> Checked {
        let source = match source {
            Endpoint::Built(source) => Arc::clone(source),
            Endpoint::Named(spec) => {
                let mut options = spec.options.clone();
                let context = ConnectorContext { base: &self.validator.spec.base, options: &mut options };
                let source = self.validator.connectors.source(&spec.connector.text, context);
                let source = source.map_err(|error| connector_problem(&located(self.name, &spec.connector), error))?;
                finished(self.name, options)?;
                source
            }
        };
        let schema = source.schema();
        self.distinct(&schema)?;
        let watermark = watermark.map(|watermark| self.watermark(watermark, &schema)).transpose()?;
        Ok((Operation::Source { source, watermark, on_error }, schema))
    }

    fn distinct(&self, schema: &Schema) -> Result<(), Problem> {
        let mut seen = BTreeSet::new();
        match schema.fields().iter().find(|field| !seen.insert(field.name())) {
            None => Ok(()),
            Some(field) => {
                let kind = ProblemKind::DuplicateColumn { node: self.name.text.clone(), column: field.name().clone() };
                Err(self.problem(Location::NONE, kind))
            }
        }
    }

    fn watermark(&self, spec: &WatermarkSpec, schema: &Schema) -> Result<Watermark, Problem> {
        let column = self.column(&spec.column, schema)?;
        let field = schema.field(column);
        if !matches!(field.data_type(), DataType::Timestamp(..) | DataType::Int64 | DataType::Date32) {
            let kind = ProblemKind::ColumnType {
                node: self.name.text.clone(),
                column: field.name().clone(),
                got: text(field.data_type(), field.is_nullable()),
                wanted: "an event time is a timestamp, a date or an int64 of milliseconds",
            };
            return Err(self.problem(spec.column.at, kind));
        }
        Ok(Watermark { column, delay_ms: self.duration_ms(&spec.delay)? })
    }

    fn duration_ms(&self, text: &Name) -> Result<i64, Problem> {
        let duration = duration::parse(&text.text).map_err(|error| self.message(text.at, error.to_string()))?;
        i64::try_from(duration.as_millis()).map_err(|_| self.message(text.at, format!("\"{text}\" is too long")))
    }

    fn column(&self, column: &Name, schema: &Schema) -> Result<usize, Problem> {
        schema
            .index_of(&column.text)
            .map_err(|_| self.problem(column.at, unknown_column(&self.name.text, &column.text, schema)))
    }

    fn with(&self, columns: &[(Name, Name)]) -> Result<(Operation, SchemaRef), Vec<Problem>> {
        let mut fields: Vec<Arc<Field>> = self.input.fields().to_vec();
        let mut placed = Vec::new();
        let mut problems = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, call) in columns {
            if !seen.insert(&name.text) {
                let kind = ProblemKind::DuplicateColumn { node: self.name.text.clone(), column: name.text.clone() };
                problems.push(self.problem(name.at, kind));
                continue;
            }
            match self.call(call, &[], &[Kind::Scalar, Kind::Vectorized], "a scalar function") {
                Err(problem) => problems.push(problem),
                Ok(call) => {
                    let field = Arc::new(call.loaded.result.to_field(&name.text));
                    let place = match self.input.index_of(&name.text) {
                        Ok(index) => {
                            fields[index] = field;
                            ColumnPlace::Replace(index)
                        }
                        Err(_) => {
                            fields.push(field);
                            ColumnPlace::Append
                        }
                    };
                    placed.push((place, call));
                }
            }
        }
        if columns.is_empty() {
            problems.push(self.message(Location::NONE, "with: is empty; column: call is wanted".into()));
        }
        match problems.is_empty() {
            true => Ok((Operation::With { columns: placed }, Arc::new(Schema::new(fields)))),
            false => Err(problems),
        }
    }

    fn select(&self, columns: &[(Name, Name)]) -> Result<(Operation, SchemaRef), Vec<Problem>> {
        let mut indices = Vec::new();
        let mut fields = Vec::new();
        let mut problems = Vec::new();
        for (new, column) in columns {
            match self.column(column, self.input) {
                Ok(index) => {
                    indices.push(index);
                    fields.push(self.input.field(index).clone().with_name(&new.text));
                }
                Err(problem) => problems.push(problem),
            }
        }
        let schema = Arc::new(Schema::new(fields));
        problems.extend(self.distinct(&schema).err());
        if problems.is_empty() { Ok((Operation::Select { columns: indices }, schema)) } else { Err(problems) }
    }

    fn key(&self, names: &[Name]) -> Result<Vec<usize>, Vec<Problem>> {
        let mut key = Vec::new();
        let mut problems = Vec::new();
        for name in names {
            match self.column(name, self.input) {
                Ok(index) if !key.contains(&index) => match self.keyable(name, index) {
                    Ok(()) => key.push(index),
                    Err(problem) => problems.push(problem),
                },
                Ok(_) => problems.push(self.message(name.at, format!("key column \"{name}\" stands twice"))),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(key) } else { Err(problems) }
    }

    fn keyable(&self, name: &Name, index: usize) -> Result<(), Problem> {
        let field = self.input.field(index);
        if crate::key::is_keyable(field.data_type()) {
            return Ok(());
        }
        let kind = ProblemKind::ColumnType {
            node: self.name.text.clone(),
            column: field.name().clone(),
            got: text(field.data_type(), field.is_nullable()),
            wanted: "a key is of a type without maps",
        };
        Err(self.problem(name.at, kind))
    }

    fn window(&self, spec: &WindowSpec) -> Result<TumblingWindow, Problem> {
        let size_ms = self.duration_ms(&spec.size)?;
        let offset_ms = spec.offset.as_ref().map_or(Ok(0), |offset| self.duration_ms(offset))?;
        if size_ms == 0 {
            return Err(self.message(spec.size.at, "window.tumbling: is 0; 1ms or more is possible".into()));
        }
        if offset_ms >= size_ms {
            let message =
                format!("window.offset: is {offset_ms} ms; less than the window's size, {size_ms} ms, is possible");
            return Err(self.message(spec.offset.as_ref().map_or(Location::NONE, |offset| offset.at), message));
        }
        if !self.has_event_time() {
            return Err(self.message(Location::NONE, "windows need event time, and no source before has a watermark: add `watermark: { column: …, delay: … }` to the source".into()));
        }
        Ok(TumblingWindow { size_ms, offset_ms })
    }

    /// Does any source before this node say what the event time is?
    fn has_event_time(&self) -> bool {
        let validator = self.validator;
        let spec = validator.spec.nodes.iter().find(|node| node.name.text == self.name.text);
        let mut open: Vec<NodeId> = spec
            .into_iter()
            .flat_map(|node| &node.from)
            .filter_map(|from| validator.ids.get(&from.text).copied())
            .collect();
        while let Some(id) = open.pop() {
            if let Operation::Source { watermark: Some(_), .. } = validator.nodes[id].operation {
                return true;
            }
            open.extend(validator.nodes[id].inputs.iter().map(|(input, _)| *input));
        }
        false
    }

    fn call(&self, call: &Name, key: &[usize], kinds: &[Kind], wanted: &'static str) -> Result<BoundCall, Problem> {
        let node = self.name.text.clone();
        let parsed = call::parse(&call.text)
            .map_err(|error| self.problem(call.at, ProblemKind::Call { node: node.clone(), error }))?;
        let udf = match self.validator.udfs.get(&parsed.udf) {
            Some(Some(udf)) => Arc::clone(udf),
            Some(None) => return Err(self.message(call.at, format!("udf \"{}\" could not be loaded", parsed.udf))),
            None => {
                let known = self.validator.udfs.keys().cloned().collect();
                return Err(self.problem(call.at, ProblemKind::UnknownUdf { node, udf: parsed.udf, known }));
            }
        };
        let title = format!("{}.{}", parsed.udf, parsed.function);
        let Some(function) = udf.functions.iter().find(|function| function.name == parsed.function) else {
            let known = udf.functions.iter().map(|function| function.name.clone()).collect();
            let kind = ProblemKind::UnknownFunction { node, udf: parsed.udf, function: parsed.function, known };
            return Err(self.problem(call.at, kind));
        };
        if !kinds.contains(&function.kind) {
            let kind = function.kind.to_string();
            return Err(self.problem(call.at, ProblemKind::Kind { node, function: title, kind, wanted }));
        }
        let binder = Binder { node: &self.name.text, title: &title, function, schema: self.input };
        let bound = binder.bind(&parsed.arguments).map_err(|kind| self.problem(call.at, kind))?;
        let (fields, arguments): (Vec<Field>, Vec<_>) = bound.into_iter().unzip();
        let key = key.iter().map(|&index| self.key_field(index)).collect();
        let binding = Binding {
            function: parsed.function,
            arguments: fields,
            key,
            result: self.result.clone(),
            access: Vec::new(),
            parameters: udf.parameters.clone(),
        };
        let kind = function.kind;
        let mut bound = BoundCall {
            udf,
            kind,
            arguments,
            binding,
            loaded: wasmill_host::Loaded { result: data_type::FieldType::nullable(DataType::Null), states: Vec::new() },
        };
        bound.loaded = self.opened(&bound).map_err(|error| self.problem(call.at, ProblemKind::Host { error }))?;
        Ok(bound)
    }

    fn key_field(&self, index: usize) -> Field {
        let field = self.input.field(index);
        let data_type = data_type::canonical(field.data_type()).unwrap_or_else(|_| field.data_type().clone());
        Field::new(field.name(), data_type, field.is_nullable())
    }

    /// Opens the function as the job will, to learn its result and states, and to fail now if it fails.
    fn opened(&self, call: &BoundCall) -> Result<wasmill_host::Loaded, wasmill_host::HostError> {
        let place = Place {
            job: self.validator.spec.name.text.clone(),
            node: self.name.text.clone(),
            subtask: 0,
            parallelism: self.parallelism,
        };
        let instance = call.instantiate(&place, Quiet)?;
        Ok(instance.loaded()[0].clone())
    }

    fn state_has_key(&self, call: &BoundCall, key: &[usize]) -> Result<(), Problem> {
        match call.loaded.states.first() {
            Some(state) if key.is_empty() => {
                let message =
                    format!("{} has the state \"{}\", which is kept per key: add `key: […]`", call.title(), state.name);
                Err(self.message(Location::NONE, message))
            }
            _ => Ok(()),
        }
    }

    fn is_bool(&self, call: &BoundCall) -> Result<(), Problem> {
        if call.loaded.result.data_type == DataType::Boolean {
            return Ok(());
        }
        let got = text(&call.loaded.result.data_type, call.loaded.result.nullable);
        Err(self.message(Location::NONE, format!("{} gives {got}; a filter gives bool", call.title())))
    }

    /// Rows come out as a struct's fields; any other result is a column called as the function.
    fn rows_of(&self, call: &BoundCall) -> Result<SchemaRef, Problem> {
        let result = &call.loaded.result;
        let schema = match &result.data_type {
            DataType::Struct(fields) if !result.nullable => Schema::new(fields.clone()),
            DataType::Struct(_) => {
                let message =
                    format!("{} may give null instead of a row: give no row, or a row of nulls", call.title());
                return Err(self.message(Location::NONE, message));
            }
            _ => Schema::new(vec![result.to_field(&call.binding.function)]),
        };
        self.distinct(&schema)?;
        Ok(Arc::new(schema))
    }

    fn window_rows(&self, call: &BoundCall, key: &[usize]) -> Result<SchemaRef, Problem> {
        let result = self.rows_of(call)?;
        let time = DataType::Timestamp(TimeUnit::Millisecond, None);
        let mut fields: Vec<Field> = key.iter().map(|&index| self.input.field(index).clone()).collect();
        fields.push(Field::new("window_start", time.clone(), false));
        fields.push(Field::new("window_end", time, false));
        fields.extend(result.fields().iter().map(|field| field.as_ref().clone()));
        let schema = Schema::new(fields);
        self.distinct(&schema)?;
        Ok(Arc::new(schema))
    }

    fn union(&self, inputs: &[NodeId]) -> Checked {
        let nodes = &self.validator.nodes;
        let first = &nodes[inputs[0]];
        for &input in &inputs[1..] {
            let same = |(a, b): (&Arc<Field>, &Arc<Field>)| a.name() == b.name() && a.data_type() == b.data_type();
            let (ours, theirs) = (first.schema.fields(), nodes[input].schema.fields());
            if ours.len() != theirs.len() || !ours.iter().zip(theirs).all(same) {
                let message = format!(
                    "\"{}\" and \"{}\" have different columns: make them equal with a `select` before",
                    first.name, nodes[input].name
                );
                return Err(self.message(Location::NONE, message));
            }
        }
        let nullable = |index: usize| inputs.iter().any(|&input| nodes[input].schema.field(index).is_nullable());
        let field = |(index, field): (usize, &Arc<Field>)| field.as_ref().clone().with_nullable(nullable(index));
        let fields: Vec<Field> = first.schema.fields().iter().enumerate().map(field).collect();
        Ok((Operation::Union, Arc::new(Schema::new(fields))))
    }

    fn sink(&self, sink: &Endpoint<dyn Sink>) -> Result<Operation, Problem> {
        let sink = match sink {
            Endpoint::Built(sink) => Arc::clone(sink),
            Endpoint::Named(spec) => self.validator.named_sink(self.name, spec)?,
        };
        sink.accept(self.input).map_err(|error| connector_problem(self.name, error))?;
        Ok(Operation::Sink { sink })
    }
}

/// The type in the node's `result`, if it has one and has a function for it.
fn declared_result(spec: &NodeSpec) -> Result<Option<data_type::FieldType>, Problem> {
    let Some(result) = &spec.result else { return Ok(None) };
    let wrong = |message: String| {
        let at = if result.at.is_known() { result.at } else { spec.name.at };
        Err(Problem::new(at, ProblemKind::Node { node: spec.name.text.clone(), message }))
    };
    match &spec.operation {
        OperationSpec::With { columns } if columns.len() != 1 => {
            wrong("result: goes with a single function: make a node of each".to_owned())
        }
        OperationSpec::Source { .. }
        | OperationSpec::Select { .. }
        | OperationSpec::Union
        | OperationSpec::Sink { .. } => wrong("result: there is no function here".to_owned()),
        _ => match data_type::parse(&result.text) {
            Ok(result) => Ok(Some(result)),
            Err(error) => wrong(format!("result: {error}")),
        },
    }
}

/// A host for instances that are only opened, not run.
struct Quiet;

impl UdfHost for Quiet {
    fn log(&mut self, _: LogLevel, _: &str) {}

    fn state_get(&mut self, _: u32, _: u32) -> Result<Option<Vec<u8>>, String> {
        Err("state cannot be read before the job runs".into())
    }
}
