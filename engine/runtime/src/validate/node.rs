//! Checks one node: what it does, with which function, and what comes out of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use wasmill_host::data_type;
use wasmill_host::{Binding, Kind, LogLevel, UdfHost};

use super::{Validator, connector_problem, finished, located};
use crate::bind::{Binder, text, unknown_column};
use crate::call;
use crate::connector::{ConnectorContext, Sink, Source};
use crate::duration;
use crate::error::{Problem, ProblemKind};
use crate::graph::{BoundCall, ColumnPlace, NodeId, Operation, Place, TumblingWindow, Watermark};
use crate::spec::{Endpoint, NodeSpec, OnError, OperationSpec, StateSpec, WatermarkSpec, WindowSpec};
use crate::value::{Location, Name};

/// One node on its way.
pub(super) struct NodeContext<'a> {
    pub(super) validator: &'a Validator<'a>,
    pub(super) name: &'a Name,
    pub(super) input: &'a SchemaRef,
    pub(super) parallelism: usize,
    /// The result's type that the job declares.
    pub(super) result: Option<data_type::FieldType>,
    /// What the job wants of the function's states.
    pub(super) states: &'a [StateSpec],
}

type Checked = Result<(Operation, SchemaRef), Problem>;

impl NodeContext<'_> {
    fn problem(&self, at: Location, kind: ProblemKind) -> Problem {
        Problem::new(if at.is_known() { at } else { self.name.at }, kind)
    }

    fn message(&self, at: Location, message: String) -> Problem {
        self.problem(at, ProblemKind::Node { node: self.name.text.clone(), message })
    }

    pub(super) fn source(
        &self,
        source: &Endpoint<dyn Source>,
        watermark: Option<&WatermarkSpec>,
        on_error: OnError,
    ) -> Checked {
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

    pub(super) fn with(&self, columns: &[(Name, Name)]) -> Result<(Operation, SchemaRef), Vec<Problem>> {
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

    pub(super) fn select(&self, columns: &[(Name, Name)]) -> Result<(Operation, SchemaRef), Vec<Problem>> {
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
        if columns.is_empty() {
            problems.push(
                self.message(Location::NONE, "select: is empty; columns, or new_name: column, are wanted".into()),
            );
        }
        let schema = Arc::new(Schema::new(fields));
        problems.extend(self.distinct(&schema).err());
        if problems.is_empty() { Ok((Operation::Select { columns: indices }, schema)) } else { Err(problems) }
    }

    pub(super) fn key(&self, names: &[Name]) -> Result<Vec<usize>, Vec<Problem>> {
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

    pub(super) fn window(&self, spec: &WindowSpec) -> Result<TumblingWindow, Problem> {
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
        if let Some(source) = self.source_without_time() {
            let message = format!(
                "windows need event time, and the source \"{source}\" before has no watermark: add `watermark: {{ column: …, delay: … }}` to it"
            );
            return Err(self.message(Location::NONE, message));
        }
        Ok(TumblingWindow { size_ms, offset_ms })
    }

    /// A source before this node that does not say what the event time is.
    fn source_without_time(&self) -> Option<&str> {
        let validator = self.validator;
        let spec = validator.spec.nodes.iter().find(|node| node.name.text == self.name.text);
        let mut open: Vec<NodeId> = spec
            .into_iter()
            .flat_map(|node| &node.from)
            .filter_map(|from| validator.ids.get(&from.text).copied())
            .collect();
        while let Some(id) = open.pop() {
            let node = &validator.nodes[id];
            if let Operation::Source { watermark: None, .. } = node.operation {
                return Some(&node.name);
            }
            open.extend(node.inputs.iter().map(|(input, _)| *input));
        }
        None
    }

    /// Only a function can have states.
    pub(super) fn states_fit(&self, operation: &OperationSpec) -> Result<(), Problem> {
        match (self.states.first(), operation) {
            (None, _)
            | (
                _,
                OperationSpec::Map { .. }
                | OperationSpec::FlatMap { .. }
                | OperationSpec::Filter { .. }
                | OperationSpec::Process { .. }
                | OperationSpec::Reduce { .. }
                | OperationSpec::Window { .. },
            ) => Ok(()),
            (Some(state), _) => {
                let message = format!("state.{}: there is no function with states here", state.name);
                Err(self.message(state.name.at, message))
            }
        }
    }

    pub(super) fn call(
        &self,
        call: &Name,
        key: &[usize],
        kinds: &[Kind],
        wanted: &'static str,
    ) -> Result<BoundCall, Problem> {
        let node = self.name.text.clone();
        let parsed = call::parse(&call.text)
            .map_err(|error| self.problem(call.at, ProblemKind::Call { node: node.clone(), error }))?;
        let udf = match self.validator.udfs.get(&parsed.udf) {
            Some(Some(udf)) => Arc::clone(udf),
            Some(None) => return Err(self.problem(call.at, ProblemKind::NotLoaded { node, udf: parsed.udf })),
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
            access: self.states.iter().map(|state| (state.name.text.clone(), state.access)).collect(),
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
        self.states_are_there(&bound)?;
        Ok(bound)
    }

    /// Python functions name their states only when they are opened, so this comes after.
    fn states_are_there(&self, call: &BoundCall) -> Result<(), Problem> {
        let unknown = |wanted: &&StateSpec| call.loaded.states.iter().all(|state| state.name != wanted.name.text);
        let Some(wanted) = self.states.iter().find(unknown) else { return Ok(()) };
        let known = call.loaded.states.iter().map(|state| state.name.as_str()).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none" } else { &known };
        let message = format!("state.{}: {} has no such state; it has {known}", wanted.name, call.title());
        Err(self.message(wanted.name.at, message))
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

    pub(super) fn state_has_key(&self, call: &BoundCall, key: &[usize]) -> Result<(), Problem> {
        match call.loaded.states.first() {
            Some(state) if key.is_empty() => {
                let message =
                    format!("{} has the state \"{}\", which is kept per key: add `key: […]`", call.title(), state.name);
                Err(self.message(Location::NONE, message))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_bool(&self, call: &BoundCall) -> Result<(), Problem> {
        if call.loaded.result.data_type == DataType::Boolean {
            return Ok(());
        }
        let got = text(&call.loaded.result.data_type, call.loaded.result.nullable);
        Err(self.message(Location::NONE, format!("{} gives {got}; a filter gives bool", call.title())))
    }

    /// Rows come out as a struct's fields; any other result is a column called as the function.
    pub(super) fn rows_of(&self, call: &BoundCall) -> Result<SchemaRef, Problem> {
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

    pub(super) fn window_rows(&self, call: &BoundCall, key: &[usize]) -> Result<SchemaRef, Problem> {
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

    pub(super) fn union(&self, inputs: &[NodeId]) -> Checked {
        let nodes = &self.validator.nodes;
        let first = &nodes[inputs[0]];
        for &input in &inputs[1..] {
            let same = |(a, b): (&Arc<Field>, &Arc<Field>)| a.name() == b.name() && a.data_type() == b.data_type();
            let (ours, theirs) = (first.schema.fields(), nodes[input].schema.fields());
            if ours.len() != theirs.len() || !ours.iter().zip(theirs).all(same) {
                let message = format!(
                    "\"{}\" has the columns {}, and \"{}\" has {}: make them equal with a `select` before",
                    first.name,
                    columns_text(ours),
                    nodes[input].name,
                    columns_text(theirs)
                );
                return Err(self.message(Location::NONE, message));
            }
        }
        let nullable = |index: usize| inputs.iter().any(|&input| nodes[input].schema.field(index).is_nullable());
        let field = |(index, field): (usize, &Arc<Field>)| field.as_ref().clone().with_nullable(nullable(index));
        let fields: Vec<Field> = first.schema.fields().iter().enumerate().map(field).collect();
        Ok((Operation::Union, Arc::new(Schema::new(fields))))
    }

    pub(super) fn sink(&self, sink: &Endpoint<dyn Sink>) -> Result<Operation, Problem> {
        let sink = match sink {
            Endpoint::Built(sink) => Arc::clone(sink),
            Endpoint::Named(spec) => self.validator.named_sink(self.name, spec)?,
        };
        sink.accept(self.input).map_err(|error| connector_problem(self.name, error))?;
        Ok(Operation::Sink { sink })
    }
}

pub(super) fn columns_text(fields: &Fields) -> String {
    let column = |field: &Arc<Field>| format!("{}: {}", field.name(), text(field.data_type(), field.is_nullable()));
    fields.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// The type in the node's `result`, if it has one and has a function for it.
pub(super) fn declared_result(spec: &NodeSpec) -> Result<Option<data_type::FieldType>, Problem> {
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

    fn state_get(&mut self, _: u32, _: u32, _: &mut Vec<u8>) -> Result<bool, String> {
        Err("state cannot be read before the job runs".into())
    }
}
