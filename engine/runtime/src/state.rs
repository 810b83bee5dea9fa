//! State by key: a key has a slot, and under its slot a value in the column of each state.
//!
//! All keys are in memory, or (`state.backend.type: disk`) those that were used last, and the others in a [store on disk](disk). Which
//! of the two it is decides only how much state there can be: what a function sees and what a checkpoint holds is the same.

mod column;
mod disk;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::buffer::BooleanBuffer;
use arrow::error::ArrowError;
use wasmill_host::{Access, Effects, StateDeclaration, value_column};

use crate::checkpoint::SnapshotError;
use crate::checkpoint::changes::{Asked, Changes, Slots};
use crate::checkpoint::keyed::{KeyBytes, KeyLayout, KeyedSnapshot, StateField};
use crate::checkpoint::restore::{MyKeys, NodeState};
use crate::checkpoint::snapshot::Barrier;
use crate::config::StateBackend;
use crate::error::StateError;
use crate::key::{KeyTable, hash};
use crate::shared::Shared;

use column::{ByteState, StateColumn};
pub(crate) use disk::View;
use disk::{Store, Told, Writes};

/// The states of one subtask's keys.
pub(crate) struct KeyedState {
    table: KeyTable,
    /// In the order of their declaration.
    states: Vec<State>,
    /// `None`: nobody will ask.
    changes: Option<Changes>,
    /// `None`: all keys are in memory.
    disk: Option<Disk>,
}

struct State {
    field: StateField,
    held: Held,
}

enum Held {
    /// Travels with the bundle.
    Column(StateColumn),
    /// Is reached by host calls.
    Call(ByteState),
}

/// Keys that memory has no room for, and which of the others are to go next.
struct Disk {
    dir: PathBuf,
    memory_bytes: u64,
    windowed: bool,
    /// Made when memory is full for the first time.
    store: Option<Arc<Store>>,
    /// Keys in the store, and how many of them are in memory too.
    keys: usize,
    keys_in_memory: usize,
    /// Of slots: those in use; those whose key is in the store; those whose value the store has not.
    live: Slots,
    stored: Slots,
    unsaved: Slots,
    /// Those used at all, and those used again since the hand came by: what is used once goes before what is used often.
    used: Slots,
    again: Slots,
    /// Where the search for keys that may go goes on: a clock, or second chance.
    hand: u32,
    removed: Vec<Vec<u8>>,
    /// Barriers whose checkpoint is not confirmed: its number, and how many keys were logged before it.
    epochs: VecDeque<(u64, usize)>,
    /// The number of the first of them.
    first_epoch: u64,
    /// Keys logged since the last barrier.
    logged: usize,
}

/// The part of the memory that keys in memory may take; the store has the others.
const KEYS_PART: u64 = 2;
/// When memory is full, so much of it is made free in one go: what is on its way takes several times as much.
const FREED_PART: usize = 32;
/// The store takes no longer ones; they stay in memory.
const KEY_BYTES_MAX: usize = 65_000;

impl KeyedState {
    /// Of keys of `width` bytes, as [`KeyTable::new`] has it; with `windowed` the last eight of them are the start of a window.
    pub(crate) fn new(
        width: Option<usize>,
        windowed: bool,
        declared: &[StateDeclaration],
        shared: &Shared,
    ) -> KeyedState {
        let changes = shared.checkpoints.then(Changes::default);
        KeyedState::with(width, windowed, declared, changes, &shared.config.state_backend)
    }

    fn with(
        width: Option<usize>,
        windowed: bool,
        declared: &[StateDeclaration],
        changes: Option<Changes>,
        backend: &StateBackend,
    ) -> KeyedState {
        let state = |declared: &StateDeclaration| State {
            field: StateField { name: declared.name.clone(), data_type: declared.data_type.clone() },
            held: match declared.access {
                Access::Column => Held::Column(StateColumn::new(&declared.data_type)),
                Access::Call => Held::Call(ByteState::default()),
            },
        };
        KeyedState {
            table: KeyTable::new(width),
            states: declared.iter().map(state).collect(),
            changes,
            disk: Disk::new(backend, windowed),
        }
    }

    /// Of a function that sees no keys.
    pub(crate) fn none() -> KeyedState {
        KeyedState { table: KeyTable::new(Some(0)), states: Vec::new(), changes: None, disk: None }
    }

    /// Is there any state that a guest reaches by host calls?
    pub(crate) fn is_called(&self) -> bool {
        self.states.iter().any(|state| matches!(state.held, Held::Call(_)))
    }

    /// The slot of a key, which is valid until its bundle is [finished](Self::finish). [`load`](Self::load) makes new ones usable.
    #[inline]
    pub(crate) fn slot(&mut self, key: &[u8]) -> u32 {
        self.table.slot(key, hash(key))
    }

    pub(crate) fn key(&self, slot: u32) -> &[u8] {
        self.table.key(slot)
    }

    pub(crate) fn is_on_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Makes slots that were given since the last call usable. Those whose values came from disk.
    pub(crate) fn load(&mut self) -> Result<Vec<u32>, StateError> {
        for state in &mut self.states {
            if let Held::Column(column) = &mut state.held {
                column.grow(self.table.capacity());
            }
        }
        let Some(disk) = &mut self.disk else {
            self.table.added.clear();
            return Ok(Vec::new());
        };
        let mut added = std::mem::take(&mut self.table.added);
        added.iter().for_each(|slot| disk.live.insert(*slot));
        let mut found = Vec::new();
        if let Some(store) = &disk.store {
            // In the store's own order neighbours are read from the same block.
            added.sort_unstable_by(|a, b| self.table.key(*a).cmp(self.table.key(*b)));
            for slot in added {
                let key = self.table.key(slot);
                if key.len() <= KEY_BYTES_MAX
                    && let Some(value) = store.get(&disk.store_key(key))?
                {
                    found.push((slot, value));
                }
            }
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let fields: Vec<&StateField> = self.states.iter().map(|state| &state.field).collect();
        let values = decode_rows(&fields, found.iter().map(|(_, value)| &value[..]))?;
        let slots: Vec<u32> = found.iter().map(|(slot, _)| *slot).collect();
        for (state, values) in self.states.iter_mut().zip(values) {
            state.set(&slots, &values)?;
        }
        for &slot in &slots {
            disk.stored.insert(slot);
            // A checkpoint may have told of it.
            self.changes.iter_mut().for_each(|changes| changes.know(slot));
        }
        disk.keys_in_memory += slots.len();
        Ok(slots)
    }

    /// Has the key in `slot` any state?
    pub(crate) fn is_present(&self, slot: u32) -> bool {
        self.states.iter().any(|state| match &state.held {
            Held::Column(column) => column.is_present(slot),
            Held::Call(bytes) => bytes.get(slot).is_some(),
        })
    }

    /// The values of states that travel with a bundle.
    pub(crate) fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        let columns = self.states.iter().filter_map(|state| match &state.held {
            Held::Column(column) => Some(column.gather(slots)),
            Held::Call(_) => None,
        });
        columns.collect()
    }

    /// The encoded value of a state that the guest reaches by host calls.
    pub(crate) fn called(&self, state: usize, slot: u32) -> Result<Option<&[u8]>, String> {
        match self.states.get(state).map(|state| &state.held) {
            Some(Held::Call(bytes)) => Ok(bytes.get(slot)),
            Some(Held::Column(_)) => Err(format!("state {state} travels with the bundle")),
            None => Err(format!("there is no state {state}")),
        }
    }

    /// All values that the guest could reach by host calls, of the keys in `slots`: of each the state, the place of the key in `slots`,
    /// and the value, encoded.
    pub(crate) fn all_called(&self, slots: &[u32]) -> impl Iterator<Item = (u32, u32, &[u8])> {
        let each = self.states.iter().enumerate().filter_map(|(index, state)| match &state.held {
            Held::Call(bytes) => Some((index as u32, bytes)),
            Held::Column(_) => None,
        });
        each.flat_map(move |(state, bytes)| {
            let keys = slots.iter().enumerate();
            keys.filter_map(move |(key, slot)| Some((state, key as u32, bytes.get(*slot)?)))
        })
    }

    /// Makes the writes of a bundle real, whose keys have these slots.
    pub(crate) fn write(&mut self, slots: &[u32], effects: &Effects) -> Result<(), ArrowError> {
        let columns = self.states.iter_mut().filter_map(|state| match &mut state.held {
            Held::Column(column) => Some(column),
            Held::Call(_) => None,
        });
        for (column, writes) in columns.zip(&effects.states) {
            column.scatter(slots, &writes.values, &writes.written)?;
        }
        for call in effects.state_calls.iter() {
            if let Some(Held::Call(bytes)) = self.states.get_mut(call.state as usize).map(|state| &mut state.held) {
                bytes.set(slots[call.key as usize], call.value);
            }
        }
        Ok(())
    }

    /// Takes note that the state of a key was used, and perhaps changed.
    #[inline]
    pub(crate) fn touch(&mut self, slot: u32, changed: bool) {
        if changed && let Some(changes) = &mut self.changes {
            changes.touch(slot);
        }
        if let Some(disk) = &mut self.disk {
            match disk.used.contains(slot) {
                true => disk.again.insert(slot),
                false => disk.used.insert(slot),
            }
            if changed {
                disk.unsaved.insert(slot);
            }
        }
    }

    /// Takes note of a bundle's keys; those without any value need no slot.
    pub(crate) fn settle(&mut self, slots: &[u32], changed: bool) {
        for &slot in slots {
            match self.is_present(slot) {
                true => self.touch(slot, changed),
                false => self.remove(slot, true),
            }
        }
    }

    /// Forgets a key with its values. `tell`: a checkpoint has to say that it is gone.
    pub(crate) fn remove(&mut self, slot: u32, tell: bool) {
        if let Some(changes) = &mut self.changes {
            match tell {
                true => changes.gone(slot, self.table.key(slot)),
                false => changes.forget(slot),
            }
        }
        if let Some(disk) = &mut self.disk
            && disk.forget(slot)
        {
            disk.keys -= 1;
            disk.removed.push(disk.store_key(self.table.key(slot)));
        }
        self.release(slot);
    }

    fn release(&mut self, slot: u32) {
        for state in &mut self.states {
            match &mut state.held {
                Held::Column(column) if column.is_present(slot) => column.clear(slot),
                Held::Call(bytes) if bytes.get(slot).is_some() => bytes.set(slot, None),
                _ => {}
            }
        }
        self.table.release(slot);
    }

    /// Removes from disk what was [removed](Self::remove).
    pub(crate) fn flush(&mut self) -> Result<(), StateError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        match &disk.store {
            Some(store) if !disk.removed.is_empty() => {
                let removed = std::mem::take(&mut disk.removed);
                store.write(Writes { removed, ..Writes::default() }, 0)
            }
            _ => Ok(()),
        }
    }

    /// A bundle is over: where memory is full, keys that were not used for long go to disk. Their slots.
    pub(crate) fn finish(&mut self) -> Result<Option<Slots>, StateError> {
        self.flush()?;
        let Some(disk) = &self.disk else { return Ok(None) };
        let most = (disk.memory_bytes / KEYS_PART) as usize;
        let (bytes, keys) = (self.bytes(), self.table.len());
        if bytes <= most || keys == 0 {
            return Ok(None);
        }
        let too_much = bytes - (most - most / FREED_PART);
        self.evict((too_much / (bytes / keys).max(1)).clamp(1, keys))
    }

    fn bytes(&self) -> usize {
        let states = self.states.iter().map(|state| match &state.held {
            Held::Column(column) => column.slot_bytes() * self.table.len() + column.own_bytes(),
            Held::Call(bytes) => bytes.slot_bytes() * self.table.len() + bytes.own_bytes(),
        });
        self.table.bytes() + states.sum::<usize>()
    }

    /// Brings about so many keys to disk.
    fn evict(&mut self, count: usize) -> Result<Option<Slots>, StateError> {
        let capacity = self.table.capacity() as u32;
        let Some(disk) = &mut self.disk else { return Ok(None) };
        let mut slots = disk.least_recent(count, capacity);
        slots.retain(|slot| self.table.key(*slot).len() <= KEY_BYTES_MAX);
        slots.sort_unstable_by(|a, b| self.table.key(*a).cmp(self.table.key(*b)));
        let unsaved: Vec<u32> = slots.iter().copied().filter(|slot| disk.unsaved.contains(*slot)).collect();
        let values = self.encode_rows(&unsaved)?;
        let Some(disk) = &mut self.disk else { return Ok(None) };
        let mut writes = Writes::default();
        let mut changed = Slots::default();
        if let Some(changes) = &mut self.changes {
            slots.iter().filter(|slot| changes.leave(**slot)).for_each(|slot| changed.insert(*slot));
        }
        for (&slot, value) in unsaved.iter().zip(values) {
            let key = disk.store_key(self.table.key(slot));
            if changed.contains(slot) {
                writes.log.push((key.clone(), value.clone()));
            }
            writes.put.push((key, value));
            disk.keys += usize::from(!disk.stored.contains(slot));
        }
        disk.logged += writes.log.len();
        let epoch = disk.epoch();
        disk.store()?.write(writes, epoch)?;
        let mut evicted = Slots::default();
        for slot in slots {
            if let Some(disk) = &mut self.disk {
                disk.forget(slot);
            }
            self.release(slot);
            evicted.insert(slot);
        }
        Ok(Some(evicted))
    }

    fn encode_rows(&self, slots: &[u32]) -> Result<Vec<Vec<u8>>, StateError> {
        let mut rows = vec![Vec::new(); slots.len()];
        for state in &self.states {
            match &state.held {
                Held::Column(column) => {
                    let values = value_column::encode(&column.gather(slots)?)?;
                    rows.iter_mut().zip(values.iter()).for_each(|(row, value)| push_value(row, value));
                }
                Held::Call(bytes) => {
                    rows.iter_mut().zip(bytes.at(slots)).for_each(|(row, value)| push_value(row, value));
                }
            }
        }
        Ok(rows)
    }

    /// At most `count` keys of the window that begins at `start` which are on disk alone, by their bytes, behind `after`; they get
    /// slots. With the last key that was looked at, as long as there may be more.
    pub(crate) fn page(
        &mut self,
        start: i64,
        after: Option<&[u8]>,
        count: usize,
    ) -> Result<(Vec<u32>, Option<Vec<u8>>), StateError> {
        let Some(disk) = &self.disk else { return Ok((Vec::new(), None)) };
        let Some(store) = &disk.store else { return Ok((Vec::new(), None)) };
        let entries = store.page(&window_prefix(start), after, count)?;
        let last = if entries.len() < count { None } else { entries.last().map(|(key, _)| key.to_vec()) };
        let mut slots = Vec::new();
        for (key, _) in &entries {
            let key = table_key(key, true);
            if self.table.find(&key).is_none() {
                slots.push(self.slot(&key));
            }
        }
        self.load()?;
        Ok((slots, last))
    }

    /// What a barrier asks for; `None`: nobody will.
    pub(crate) fn asked(&mut self, barrier: &Barrier) -> Option<Asked> {
        let changes = self.changes.as_mut()?;
        let (elsewhere, keys) = match &mut self.disk {
            Some(disk) => (disk.barrier(barrier), disk.keys - disk.keys_in_memory),
            None => (0, 0),
        };
        Some(changes.take(barrier, self.table.len() + keys, elsewhere))
    }

    /// Slots of keys that were asked for and have a value, ascending.
    pub(crate) fn slots_of(&self, asked: &Asked) -> Vec<u32> {
        let slots = asked.slots.as_ref();
        let mut slots = slots.map_or_else(|| self.table.live(), |slots| slots.iter().collect::<Vec<u32>>());
        slots.retain(|slot| self.is_present(*slot));
        slots
    }

    /// What was asked for: the keys in `slots`, and those that are not in memory.
    pub(crate) fn snapshot(
        &self,
        asked: &Asked,
        slots: &[u32],
        layout: &KeyLayout,
    ) -> Result<KeyedSnapshot, StateError> {
        let width = slots.first().map_or(0, |slot| self.table.key(*slot).len());
        let mut keys = KeyBytes::with_capacity(slots.len(), width);
        slots.iter().for_each(|slot| keys.push(self.table.key(*slot)));
        for key in asked.gone.iter().filter(|key| self.table.find(key).is_none()) {
            let disk = self.disk.as_ref();
            if !disk.map_or(Ok(false), |disk| disk.contains(key))? {
                keys.push(key);
            }
        }
        let values = |state: &State| match &state.held {
            Held::Column(column) => Ok::<_, StateError>((state.field.clone(), column.gather(slots)?)),
            Held::Call(bytes) => {
                Ok((state.field.clone(), value_column::decode(&state.field.data_type, bytes.at(slots))?))
            }
        };
        let states = self.states.iter().map(values).collect::<Result<_, _>>()?;
        let full = asked.slots.is_none();
        let stored = self.disk.as_ref().and_then(|disk| disk.view(full));
        Ok(KeyedSnapshot { full, layout: layout.clone(), keys, states, stored })
    }

    /// Takes over the states of some keys, which have these slots.
    pub(crate) fn take_over(
        &mut self,
        slots: &[u32],
        mine: &MyKeys<'_>,
        state: &NodeState<'_>,
    ) -> Result<(), SnapshotError> {
        for own in &mut self.states {
            let Some(values) = mine.values(&own.field.name)? else { continue };
            let what = format!("state \"{}\"", own.field.name);
            let values = state.fitting(&what, &values, &own.field.data_type)?;
            own.set(slots, &values).map_err(|error| match error {
                StateError::Value(error) => state.unfit(format!("{what}: {error}")),
                error => SnapshotError::State(error),
            })?;
        }
        Ok(())
    }
}

impl State {
    fn set(&mut self, slots: &[u32], values: &ArrayRef) -> Result<(), StateError> {
        match &mut self.held {
            Held::Column(column) => column.scatter(slots, values, &BooleanBuffer::new_set(slots.len()))?,
            Held::Call(bytes) => {
                let values = value_column::encode(values)?;
                slots.iter().zip(values.iter()).for_each(|(slot, value)| bytes.set(*slot, value));
            }
        }
        Ok(())
    }
}

impl Disk {
    fn new(backend: &StateBackend, windowed: bool) -> Option<Disk> {
        let StateBackend::Disk { memory_bytes, dir } = backend else { return None };
        Some(Disk {
            dir: dir.clone().unwrap_or_else(std::env::temp_dir),
            memory_bytes: *memory_bytes,
            windowed,
            store: None,
            keys: 0,
            keys_in_memory: 0,
            live: Slots::default(),
            stored: Slots::default(),
            unsaved: Slots::default(),
            used: Slots::default(),
            again: Slots::default(),
            hand: 0,
            removed: Vec::new(),
            epochs: VecDeque::new(),
            first_epoch: 0,
            logged: 0,
        })
    }

    fn store(&mut self) -> Result<&Arc<Store>, StateError> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Arc::new(Store::create(&self.dir, self.memory_bytes)?),
        };
        Ok(self.store.insert(store))
    }

    fn store_key(&self, key: &[u8]) -> Vec<u8> {
        store_key(key, self.windowed)
    }

    fn contains(&self, key: &[u8]) -> Result<bool, StateError> {
        match &self.store {
            Some(store) if key.len() <= KEY_BYTES_MAX => store.contains(&self.store_key(key)),
            _ => Ok(false),
        }
    }

    /// The slot is free. Is its key in the store?
    fn forget(&mut self, slot: u32) -> bool {
        self.live.remove(slot);
        self.unsaved.remove(slot);
        self.used.remove(slot);
        self.again.remove(slot);
        let stored = self.stored.remove(slot);
        self.keys_in_memory -= usize::from(stored);
        stored
    }

    /// About so many slots that were used least recently.
    fn least_recent(&mut self, count: usize, capacity: u32) -> Vec<u32> {
        let mut slots = Vec::with_capacity(count);
        // Once round to spare what was used, and once to take it all the same.
        for _ in 0..u64::from(capacity) * 2 {
            if slots.len() >= count {
                break;
            }
            let slot = self.hand;
            self.hand = if slot + 1 >= capacity { 0 } else { slot + 1 };
            if self.live.contains(slot) && !self.again.remove(slot) {
                slots.push(slot);
                // Not twice.
                self.live.remove(slot);
            }
        }
        slots.iter().for_each(|slot| self.live.insert(*slot));
        slots
    }

    /// The number under which changes are logged until the next barrier.
    fn epoch(&self) -> u64 {
        self.first_epoch + self.epochs.len() as u64
    }

    /// A barrier has come: how many keys that are not in memory its checkpoint has to tell of, or a few more.
    fn barrier(&mut self, barrier: &Barrier) -> usize {
        self.epochs.push_back((barrier.checkpoint, std::mem::take(&mut self.logged)));
        while self.epochs.front().is_some_and(|(checkpoint, _)| *checkpoint <= barrier.confirmed) {
            self.epochs.pop_front();
            self.first_epoch += 1;
        }
        self.epochs.iter().map(|(_, logged)| logged).sum()
    }

    /// What the checkpoint of the last barrier has to tell of the store.
    fn view(&self, full: bool) -> Option<View> {
        let store = self.store.as_ref()?;
        let (from, to) = (self.first_epoch, self.epoch().saturating_sub(1));
        Some(store.view(if full { Told::All { from } } else { Told::Changed { from, to } }))
    }
}

/// Can state be kept where `backend` says? Better told before the job runs than when memory is full.
pub(crate) fn check_place(backend: &StateBackend) -> Result<(), StateError> {
    match backend {
        StateBackend::Memory => Ok(()),
        StateBackend::Disk { dir, .. } => disk::try_folder(&dir.clone().unwrap_or_else(std::env::temp_dir)),
    }
}

/// In the store the keys of a window lie together, and windows by time.
fn store_key(key: &[u8], windowed: bool) -> Vec<u8> {
    match key.split_last_chunk::<8>().filter(|_| windowed) {
        Some((key, start)) => [&window_prefix(i64::from_be_bytes(*start)), key].concat(),
        // The store takes no key of no bytes.
        None => [&[0], key].concat(),
    }
}

fn window_prefix(start: i64) -> [u8; 8] {
    // Negative ones before the others.
    (start ^ i64::MIN).to_be_bytes()
}

/// The key of an entry of a store.
pub(crate) fn table_key(stored: &[u8], windowed: bool) -> Vec<u8> {
    match stored.split_first_chunk::<8>().filter(|_| windowed) {
        Some((start, key)) => [key, &(i64::from_be_bytes(*start) ^ i64::MIN).to_be_bytes()].concat(),
        None => stored.get(1..).unwrap_or_default().to_vec(),
    }
}

/// One state's value in a row of the store: its length and one more, little-endian, and its bytes; 0: there is none.
fn push_value(row: &mut Vec<u8>, value: Option<&[u8]>) {
    let length = value.map_or(0, |value| value.len() as u32 + 1);
    row.extend_from_slice(&length.to_le_bytes());
    row.extend_from_slice(value.unwrap_or_default());
}

/// Rows of the store as columns, one for each state.
pub(crate) fn decode_rows<'a>(
    fields: &[&StateField],
    rows: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<ArrayRef>, StateError> {
    let mut values: Vec<Vec<Option<&[u8]>>> = vec![Vec::new(); fields.len()];
    for mut row in rows {
        for column in &mut values {
            let (length, rest) = row.split_first_chunk::<4>().ok_or(StateError::Damaged)?;
            let length = u32::from_le_bytes(*length).checked_sub(1);
            let (value, rest) = rest.split_at_checked(length.unwrap_or(0) as usize).ok_or(StateError::Damaged)?;
            column.push(length.map(|_| value));
            row = rest;
        }
    }
    let column = |(field, values): (&&StateField, Vec<Option<&[u8]>>)| value_column::decode(&field.data_type, values);
    Ok(fields.iter().zip(values).map(column).collect::<Result<_, _>>()?)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
