//! A job put together: which nodes share a task, which tasks a region, and what each begins with.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, unbounded};
use wasmill_host::data_type;

use crate::batch::StreamElement;
use crate::checkpoint::SnapshotError;
use crate::checkpoint::manifest::{NodeManifest, SubtaskManifest};
use crate::checkpoint::protocol::{RegionId, TaskId, TaskPlan};
use crate::checkpoint::restore::{NodeState, Restored};
use crate::checkpoint::snapshot::Barrier;
use crate::config::{BarrierBundle, default_max_parallelism};
use crate::connector::{ConnectorError, Subtask, WriterState};
use crate::error::JobError;
use crate::exchange::{Edge, Inlet, Output, Wires, partition, wires};
use crate::graph::{Exchange, JobGraph, NodeId, Operation};
use crate::inputs::{Inputs, WaitingBarriers};
use crate::key::KeyEncoder;
use crate::operator::{Chained, Operator, SinkOperator, build};
use crate::shared::Shared;
use crate::simulate::Sabotage;
use crate::source::{Numbered, Splits, SplitsState, WatermarkEmitter};
use crate::task::{Head, SourceHead, Task};

/// What stays the same however often tasks are started.
#[derive(Clone)]
pub(crate) struct Assembly {
    pub graph: JobGraph,
    /// Nodes that run in one task, first to last.
    chains: Vec<Vec<NodeId>>,
    /// By chain.
    regions: Vec<RegionId>,
    /// The chain and subtask of each task.
    pub tasks: Vec<(usize, usize)>,
    /// By source node and subtask.
    splits: BTreeMap<NodeId, Vec<Vec<Numbered>>>,
    /// By split number: name of the source, id of the split.
    pub split_names: Arc<[(String, String)]>,
    /// Sum of the splits' sizes; 0 if one is unknown.
    pub size: u64,
    pub bounded: bool,
    /// Number of key groups of each node.
    pub max_parallelism: Vec<usize>,
}

/// The ends by which barriers reach sources.
pub(crate) type Controls = BTreeMap<TaskId, Sender<Barrier>>;

/// Barriers for tasks that are about to be started: without them their checkpoint would wait in vain.
#[derive(Default)]
pub(crate) struct EarlyBarriers(Vec<(TaskId, u64, Barrier)>);

impl EarlyBarriers {
    pub(crate) fn keep(&mut self, task: TaskId, attempt: u64, barrier: Barrier) {
        self.0.push((task, attempt, barrier));
    }

    /// The tasks of a region have been started.
    pub(crate) fn hand_over(&mut self, attempt: u64, controls: &Controls) {
        let (theirs, others) =
            std::mem::take(&mut self.0).into_iter().partition(|(task, ..)| controls.contains_key(task));
        self.0 = others;
        let theirs: Vec<(TaskId, u64, Barrier)> = theirs;
        for (task, _, barrier) in theirs.into_iter().filter(|(_, of, _)| *of == attempt) {
            // A source that has ended says so by itself.
            let _ended = controls[&task].send(barrier);
        }
    }
}

/// What was in channels: by receiving node, sending node and sending subtask.
type Kept = BTreeMap<(NodeId, NodeId, usize), Vec<StreamElement>>;

/// One task before it is opened: channels are made for a whole region, UDFs on the thread that calls them.
pub(crate) struct Seed {
    pub task: TaskId,
    inlets: Vec<Inlet>,
    edges: Vec<Edge>,
    control: Receiver<Barrier>,
}

impl Assembly {
    /// # Errors
    /// The sources', and [`JobError::Restore`] where `from` is of another job.
    pub(crate) fn new(graph: &JobGraph, from: Option<&Restored>) -> Result<Assembly, JobError> {
        let chains = chains(graph);
        let regions = regions(graph, &chains);
        let tasks = chains.iter().enumerate();
        let tasks = tasks
            .flat_map(|(chain, nodes)| (0..graph.nodes[nodes[0]].parallelism).map(move |subtask| (chain, subtask)));
        let groups = |(id, node): (NodeId, &crate::graph::Node)| {
            let before = from.and_then(|from| from.manifest.node(&node.id)).map(|node| node.max_parallelism);
            let chosen = graph.config.max_parallelism.or(before);
            (id, chosen.unwrap_or_else(|| default_max_parallelism(node.parallelism)))
        };
        let mut assembly = Assembly {
            tasks: tasks.collect(),
            regions,
            chains,
            splits: BTreeMap::new(),
            split_names: Arc::new([]),
            size: 0,
            bounded: true,
            max_parallelism: graph.nodes.iter().enumerate().map(groups).map(|(_, groups)| groups).collect(),
            graph: graph.clone(),
        };
        assembly.assign_splits(from)?;
        Ok(assembly)
    }

    /// The same tasks with other functions: `graph` is this one's but for its calls.
    pub(crate) fn with(&self, graph: JobGraph) -> Assembly {
        Assembly { graph, ..self.clone() }
    }

    pub(crate) fn plans(&self) -> Vec<TaskPlan> {
        let plan =
            |&(chain, _): &(usize, usize)| TaskPlan { region: self.regions[chain], source: self.is_source(chain) };
        self.tasks.iter().map(plan).collect()
    }

    pub(crate) fn region_count(&self) -> usize {
        self.regions.iter().max().map_or(0, |last| last + 1)
    }

    fn is_source(&self, chain: usize) -> bool {
        matches!(self.graph.nodes[self.chains[chain][0]].operation, Operation::Source { .. })
    }

    /// The first node of a task, and its subtask.
    pub(crate) fn place(&self, task: TaskId) -> (NodeId, usize) {
        let (chain, subtask) = self.tasks[task];
        (self.chains[chain][0], subtask)
    }

    /// The node's name; the job's dead letters count as one behind the last.
    pub(crate) fn node_name(&self, node: NodeId) -> &str {
        self.graph.nodes.get(node).map_or(crate::dead_letter::LETTERS, |node| &node.name)
    }

    /// Under which checkpoints know the node.
    pub(crate) fn node_id(&self, node: NodeId) -> &str {
        self.graph.nodes.get(node).map_or(crate::dead_letter::LETTERS, |node| &node.id)
    }

    pub(crate) fn nodes_of(&self, region: RegionId) -> impl Iterator<Item = NodeId> + '_ {
        let chains = self.chains.iter().zip(&self.regions);
        chains.filter(move |(_, of)| **of == region).flat_map(|(chain, _)| chain.iter().copied())
    }

    /// What a manifest says of a node, before its subtasks have told anything.
    pub(crate) fn describe(&self, id: NodeId) -> NodeManifest {
        Assembly::describe_of(&self.graph, id, self.max_parallelism[id])
    }

    /// As [`describe`](Self::describe), of any graph.
    pub(crate) fn describe_of(graph: &JobGraph, id: NodeId, max_parallelism: usize) -> NodeManifest {
        let node = &graph.nodes[id];
        let notation = |data_type, nullable| data_type::display(data_type, nullable).unwrap_or_default();
        let key = node.operation.key().unwrap_or_default();
        let call = match &node.operation {
            Operation::Rows { call, .. } | Operation::Filter { call, .. } | Operation::Window { call, .. } => {
                Some(call)
            }
            _ => None,
        };
        let input = node.inputs.first().map_or(&node.schema, |(input, _)| &graph.nodes[*input].schema);
        let key = key.iter().map(|column| input.field(*column));
        let states = call.into_iter().flat_map(|call| &call.loaded.states);
        NodeManifest {
            id: node.id.clone(),
            does: node.describe(),
            max_parallelism,
            key: key.map(|field| (field.name().clone(), notation(field.data_type(), field.is_nullable()))).collect(),
            states: states.map(|state| (state.name.clone(), notation(&state.data_type, false))).collect(),
            subtasks: vec![SubtaskManifest::default(); node.parallelism],
        }
    }

    fn assign_splits(&mut self, from: Option<&Restored>) -> Result<(), JobError> {
        let mut names = from.map(|from| from.manifest.splits.clone()).unwrap_or_default();
        let mut sized = true;
        let mut size = 0;
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let Operation::Source { source, .. } = &node.operation else { continue };
            self.bounded &= source.bounded();
            let splits = source.splits().map_err(|error| JobError::Connector { node: node.name.clone(), error })?;
            let mut subtasks = vec![Vec::new(); node.parallelism];
            for (index, split) in splits.into_iter().enumerate() {
                sized &= split.size.is_some();
                size += split.size.unwrap_or(0);
                let name = (node.name.clone(), split.id.clone());
                let number = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                // More splits than numbers share numbers: only the text of a dead letter's position suffers.
                let number = (number % usize::from(u16::MAX)) as u16;
                subtasks[index % node.parallelism].push((number, split));
            }
            self.splits.insert(id, subtasks);
        }
        self.size = if sized { size } else { 0 };
        self.split_names = names.into();
        Ok(())
    }

    /// The tasks of a region with fresh channels between them, and the ends by which barriers reach its sources.
    pub(crate) fn seeds(
        &self,
        region: RegionId,
        elements_max: Option<usize>,
    ) -> Result<(Vec<Seed>, Controls), JobError> {
        let mut inlets: BTreeMap<(usize, usize), Vec<Inlet>> = BTreeMap::new();
        let mut edges: BTreeMap<(usize, usize), Vec<Edge>> = BTreeMap::new();
        for (to, chain) in self.chains.iter().enumerate().filter(|(chain, _)| self.regions[*chain] == region) {
            let node = &self.graph.nodes[chain[0]];
            for (input, exchange) in &node.inputs {
                let Some(from) = self.chains.iter().position(|chain| chain.last() == Some(input)) else { continue };
                let sender = &self.graph.nodes[*input];
                let Wires { lanes, inlets: ports } =
                    wires(exchange, *input, sender.parallelism, node.parallelism, elements_max);
                for (subtask, ports) in ports.into_iter().enumerate() {
                    inlets.entry((to, subtask)).or_default().extend(ports);
                }
                for (subtask, lanes) in lanes.into_iter().enumerate() {
                    let partition = partition(exchange, &sender.schema, subtask, self.max_parallelism[chain[0]])
                        .map_err(|error| JobError::Arrow { node: node.name.clone(), error })?;
                    edges.entry((from, subtask)).or_default().push(Edge {
                        node: sender.name.clone(),
                        lanes,
                        partition,
                    });
                }
            }
        }
        let mut controls = BTreeMap::new();
        let mut seeds = Vec::new();
        for (task, place) in self.tasks.iter().enumerate().filter(|(_, (chain, _))| self.regions[*chain] == region) {
            let (sender, control) = unbounded();
            if self.is_source(place.0) {
                controls.insert(task, sender);
            }
            let (inlets, edges) = (inlets.remove(place).unwrap_or_default(), edges.remove(place).unwrap_or_default());
            seeds.push(Seed { task, inlets, edges, control });
        }
        Ok((seeds, controls))
    }

    /// The task at work. UDFs are instantiated here, on the thread that will call them.
    pub(crate) fn open(&self, seed: Seed, from: Option<&Restored>, shared: Arc<Shared>) -> Result<Task, JobError> {
        let (chain, subtask) = self.tasks[seed.task];
        let chain = &self.chains[chain];
        let mut operators = self.operators(chain, subtask, from, &shared)?;
        if shared.checkpoints && shared.config.checkpoint_bundle == BarrierBundle::Persist {
            let waiting = WaitingBarriers::new(&seed.inlets, Some(&seed.control));
            operators.iter_mut().for_each(|chained| chained.operator.watch(&waiting));
        }
        let first = &self.graph.nodes[chain[0]];
        let mut kept = self.kept(chain, subtask, from)?;
        let head = match &first.operation {
            Operation::Source { .. } => self.source_head(chain[0], subtask, seed.control, from, &shared)?,
            _ => {
                let mut inputs = Inputs::new(seed.inlets);
                let senders: Vec<(NodeId, usize)> = inputs.senders().collect();
                let place = |sender: &(NodeId, usize)| (chain[0], sender.0, sender.1);
                inputs.restore(senders.iter().map(|sender| kept.remove(&place(sender)).unwrap_or_default()));
                Head::Channels(Box::new(inputs))
            }
        };
        // What has no channel any more, where nodes were joined in one task, comes before all else.
        let early = kept.into_iter().flat_map(|((node, ..), elements)| {
            let position = operators.iter().position(|chained| chained.node == node).unwrap_or(0);
            elements.into_iter().filter_map(move |element| match element {
                StreamElement::Batch(batch) => Some((position, batch)),
                _ => None,
            })
        });
        let early = early.collect();
        Ok(Task { head, chain: operators, output: Output { edges: seed.edges }, shared, confirmed: 0, early })
    }

    /// What was in channels to nodes of a chain.
    fn kept(&self, chain: &[NodeId], subtask: usize, from: Option<&Restored>) -> Result<Kept, JobError> {
        let mut kept = Kept::new();
        let Some(from) = from else { return Ok(kept) };
        for &id in chain {
            let node = &self.graph.nodes[id];
            let Some(before) = from.manifest.node(&node.id) else { continue };
            let state = NodeState { from, node: before, subtask, parallelism: node.parallelism };
            for (input, _) in &node.inputs {
                let sender = &self.graph.nodes[*input];
                let key = node.operation.key().filter(|key| !key.is_empty());
                let key = key.map(|key| KeyEncoder::new(&sender.schema, key)).transpose();
                let found = key
                    .map_err(SnapshotError::Arrow)
                    .and_then(|key| state.channels(&sender.id, sender.parallelism, key.as_ref()));
                let found = found.map_err(|error| JobError::Restore { node: node.name.clone(), error })?;
                for (sender_subtask, elements) in found.into_iter().enumerate() {
                    kept.insert((id, *input, sender_subtask), elements);
                }
            }
        }
        Ok(kept)
    }

    fn source_head(
        &self,
        id: NodeId,
        subtask: usize,
        control: Receiver<Barrier>,
        from: Option<&Restored>,
        shared: &Arc<Shared>,
    ) -> Result<Head, JobError> {
        let node = &self.graph.nodes[id];
        let Operation::Source { source, watermark, on_error } = &node.operation else {
            unreachable!("the head of a source is asked for of sources alone")
        };
        let splits = self.splits.get(&id).map(|splits| splits[subtask].clone()).unwrap_or_default();
        let mut splits = Splits::new(Arc::clone(source), *watermark, splits);
        if let Some(from) = from
            && let Some(before) = from.manifest.node(&node.id)
        {
            let restored = self.splits_states(before, subtask, node.parallelism, from);
            let mut states = restored.map_err(|error| JobError::Restore { node: node.name.clone(), error })?;
            if shared.sabotage == Some(Sabotage::RestoreOlderPosition) {
                states.iter_mut().flat_map(|state| &mut state.open).for_each(|split| split.position = None);
            }
            splits.restore(&states);
        }
        Ok(Head::Source(Box::new(SourceHead {
            id,
            node: node.name.clone(),
            control,
            splits,
            watermarks: WatermarkEmitter::new(shared.config.watermark_interval, shared.clock.elapsed()),
            on_error: *on_error,
            metrics: Arc::clone(&shared.metrics.nodes[id].1),
        })))
    }

    fn splits_states(
        &self,
        node: &NodeManifest,
        subtask: usize,
        parallelism: usize,
        from: &Restored,
    ) -> Result<Vec<SplitsState>, SnapshotError> {
        let state = NodeState { from, node, subtask, parallelism };
        // All of them: new files may have moved splits to other subtasks.
        let states: Vec<SplitsState> = NodeState { parallelism: usize::MAX, ..state }.own()?;
        let source = self.splits.values().flatten().flatten().map(|(_, split)| split.id.as_str());
        let there: std::collections::HashSet<&str> = source.collect();
        match states.iter().flat_map(|state| &state.open).find(|split| !there.contains(split.id.as_str())) {
            None => Ok(states),
            Some(split) => Err(SnapshotError::Unfit {
                place: from.location(),
                message: format!("{} had been read in part, and is not there any more: bring it back", split.id),
            }),
        }
    }

    fn operators(
        &self,
        chain: &[NodeId],
        subtask: usize,
        from: Option<&Restored>,
        shared: &Arc<Shared>,
    ) -> Result<Vec<Chained>, JobError> {
        let mut operators = Vec::new();
        for &id in chain {
            let node = &self.graph.nodes[id];
            let metrics = Arc::clone(&shared.metrics.nodes[id].1);
            let input = node.inputs.first().map_or(&node.schema, |(input, _)| &self.graph.nodes[*input].schema);
            let before = from.and_then(|from| Some((from, from.manifest.node(&node.id)?)));
            let state = before.map(|(from, node_before)| NodeState {
                from,
                node: node_before,
                subtask,
                parallelism: node.parallelism,
            });
            let operator = match &node.operation {
                Operation::Sink { sink } => {
                    let place = Subtask { index: subtask, parallelism: node.parallelism };
                    let states: Vec<WriterState> = state.as_ref().map(NodeState::writers).unwrap_or_default();
                    let failed = |error: ConnectorError| JobError::Connector { node: node.name.clone(), error };
                    let writer = sink.writer(&node.schema, place, &states).map_err(failed)?;
                    Some(Box::new(SinkOperator::new(&node.name, writer, shared.checkpoints)) as Box<dyn Operator>)
                }
                _ => build(node, input, subtask, shared, &metrics)?,
            };
            let Some(mut operator) = operator else { continue };
            if let Some(state) = &state {
                let restored = operator.restore(state);
                restored.map_err(|error| JobError::Restore { node: node.name.clone(), error })?;
            }
            operators.push(Chained { node: id, operator, metrics });
        }
        Ok(operators)
    }
}

/// Nodes that run in one task, first to last.
fn chains(graph: &JobGraph) -> Vec<Vec<NodeId>> {
    let mut readers = vec![0; graph.nodes.len()];
    for node in &graph.nodes {
        node.inputs.iter().for_each(|(input, _)| readers[*input] += 1);
    }
    let mut chains: Vec<Vec<NodeId>> = Vec::new();
    let mut chain_of = vec![0; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        match node.inputs.as_slice() {
            [(input, Exchange::Forward)] if readers[*input] == 1 => {
                chain_of[id] = chain_of[*input];
                chains[chain_of[id]].push(id);
            }
            _ => {
                chain_of[id] = chains.len();
                chains.push(vec![id]);
            }
        }
    }
    chains
}

/// The region of each chain: chains that rows connect, whichever way, are one.
fn regions(graph: &JobGraph, chains: &[Vec<NodeId>]) -> Vec<RegionId> {
    let mut region: Vec<usize> = (0..chains.len()).collect();
    if graph.dead_letters.is_some() {
        // All tasks write to the sink of dead letters: none of them can go back without the others.
        return vec![0; chains.len()];
    }
    for (to, chain) in chains.iter().enumerate() {
        for (input, _) in &graph.nodes[chain[0]].inputs {
            let from = chains.iter().position(|chain| chain.contains(input)).unwrap_or(to);
            let (joined, kept) = (region[to], region[from]);
            region.iter_mut().filter(|region| **region == joined).for_each(|region| *region = kept);
        }
    }
    let mut numbers: Vec<usize> = region.clone();
    numbers.sort_unstable();
    numbers.dedup();
    region.iter().map(|region| numbers.iter().position(|number| number == region).unwrap_or(0)).collect()
}
