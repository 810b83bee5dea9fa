//! State per key: a value of a type of the contract, kept by the host, cached here for the length of a bundle.

use crate::context::OpenContext;
use crate::frame::{FrameError, FrameWriter, Slots};
use crate::function::{Access, Binding, Loaded, Problem, StateDeclaration};
use crate::host;
use crate::value::{ColumnWriter, NonNull, Reader, Value, decode_value};

/// A struct whose fields of type [`ValueState`] are states: `#[derive(States)]`. Its other fields begin as their defaults, and
/// `open` may fill them.
///
/// A state takes its field's name. `#[state(name = "…")]` gives it another; `#[state(access = "call")]` lets the function fetch the
/// values of a whole bundle by a host call rather than have them travel with it, and `#[state(access = "call", prefetch = false)]` only
/// those that it asks for, one by one: right for large values of which few are read. What it wrote goes back in one call either way.
pub trait States: Sized + 'static {
    /// The states in the order of the fields.
    fn declare() -> Vec<StateDeclaration>;

    /// A new one, whose states have the accesses of `loaded`.
    fn create(loaded: &[StateDeclaration]) -> Self;

    /// Calls `visit` with each state in order.
    fn visit(&mut self, visit: &mut dyn FnMut(&mut dyn AnyState) -> Result<(), FrameError>) -> Result<(), FrameError>;

    /// Makes `key` the current key.
    fn select(&mut self, key: usize);

    /// Keeps what the current row wrote.
    fn commit(&mut self);

    /// Undoes what the current row wrote.
    fn undo(&mut self);
}

/// A state whatever its type.
pub trait AnyState {
    /// Fetches the values of a bundle of `keys` keys.
    fn load(&mut self, slots: &mut Slots<'_>, keys: usize) -> Result<(), FrameError>;
    /// Fills the state's slots in the effects, or stores it by a call.
    fn store(&mut self, frame: &mut FrameWriter);
}

/// One value per key.
///
/// Writes are undone if the row that made them fails. `T` is any type of the contract without null: a state without a value is
/// `None`.
pub struct ValueState<T: Value + NonNull> {
    index: u32,
    access: Access,
    prefetch: bool,
    entries: Vec<Entry<T>>,
    current: usize,
    /// What the current key had before the row wrote, once it has written.
    before: Option<(Option<T>, bool)>,
    writer: T::Writer,
}

struct Entry<T> {
    value: Option<T>,
    written: bool,
    fetched: bool,
}

impl<T: Value + NonNull> ValueState<T> {
    /// State number `index` of its function.
    pub fn new(index: usize, access: Access, prefetch: bool) -> Self {
        let index = u32::try_from(index).expect("a struct has fewer fields");
        Self { index, access, prefetch, entries: Vec::new(), current: 0, before: None, writer: T::Writer::default() }
    }

    /// The current key's value.
    #[inline]
    pub fn get(&mut self) -> Option<T> {
        self.value().cloned()
    }

    /// The current key's value, borrowed.
    #[inline]
    pub fn value(&mut self) -> Option<&T> {
        self.entry().value.as_ref()
    }

    /// Gives the current key a value.
    #[inline]
    pub fn set(&mut self, value: T) {
        self.write(Some(value));
    }

    /// Takes the current key's value away.
    #[inline]
    pub fn clear(&mut self) {
        self.write(None);
    }

    #[inline]
    fn entry(&mut self) -> &mut Entry<T> {
        let current = self.current;
        if !self.entries[current].fetched {
            self.fetch(current);
        }
        &mut self.entries[current]
    }

    #[inline]
    fn write(&mut self, value: Option<T>) {
        let entry = self.entry();
        let old = (std::mem::replace(&mut entry.value, value), std::mem::replace(&mut entry.written, true));
        if self.before.is_none() {
            self.before = Some(old);
        }
    }

    #[cold]
    fn fetch(&mut self, key: usize) {
        let value = host::state_get(self.index, key as u32)
            .map(|bytes| decode_value(&bytes).expect("a stored value has the state's type"));
        self.entries[key] = Entry { value, written: false, fetched: true };
    }

    /// Makes `key` the current key.
    #[inline]
    pub fn select(&mut self, key: usize) {
        assert!(key < self.entries.len(), "key index {key} of a bundle of {} keys", self.entries.len());
        self.current = key;
    }

    /// Keeps what the current row wrote.
    #[inline]
    pub fn commit(&mut self) {
        self.before = None;
    }

    /// Undoes what the current row wrote.
    #[inline]
    pub fn undo(&mut self) {
        if let Some((value, written)) = self.before.take() {
            let entry = &mut self.entries[self.current];
            (entry.value, entry.written) = (value, written);
        }
    }

    fn load_column(&mut self, slots: &mut Slots<'_>, keys: usize) -> Result<(), FrameError> {
        let reader = T::open(slots, keys)?;
        let mut wrong = None;
        let mut value = |key| {
            // SAFETY: the column was opened with `keys` rows.
            match unsafe { T::get(&reader, key) } {
                Ok(value) => Some(value),
                Err(null) => {
                    wrong.get_or_insert((key, null));
                    None
                }
            }
        };
        let entry = |value| Entry { value, written: false, fetched: true };
        if reader.has_nulls() {
            self.entries.extend((0..keys).map(|key| entry(if reader.is_null(key) { None } else { value(key) })));
        } else {
            self.entries.extend((0..keys).map(|key| entry(value(key))));
        }
        match wrong {
            None => Ok(()),
            Some((key, null)) => Err(FrameError(format!(
                "state {} of key {key} has a null {}, which its type does not allow",
                self.index,
                null.field.unwrap_or("value")
            ))),
        }
    }

    fn load_many(&mut self, keys: usize) -> Result<(), FrameError> {
        let indices: Vec<u32> = (0..keys as u32).collect();
        let (ends, bytes) = host::state_get_many(self.index, &indices);
        if ends.len() != keys {
            return Err(FrameError(format!("get-many of {keys} keys answered with {} values", ends.len())));
        }
        let mut start = 0;
        for end in ends {
            let (absent, end) = (end & ABSENT != 0, (end & !ABSENT) as usize);
            let value = match bytes.get(start..end) {
                _ if absent => None,
                Some(bytes) => {
                    Some(decode_value(bytes).map_err(|error| FrameError(format!("state {}: {error}", self.index)))?)
                }
                None => return Err(FrameError(format!("get-many says {start} to {end} of {} bytes", bytes.len()))),
            };
            start = end;
            self.entries.push(Entry { value, written: false, fetched: true });
        }
        Ok(())
    }

    fn store_column(&mut self, frame: &mut FrameWriter) {
        let slots = T::data_type().slots();
        if !self.entries.iter().any(|entry| entry.written) {
            return frame.absent(slots + 1);
        }
        self.writer.truncate(0);
        self.writer.reserve(self.entries.len());
        for entry in &self.entries {
            match &entry.value {
                Some(value) => value.push_to(&mut self.writer),
                None => self.writer.null(),
            }
        }
        self.writer.write(frame);
        frame.slot_with(self.entries.len().div_ceil(8), |out| {
            let eight =
                |entries: &[Entry<T>]| entries.iter().rev().fold(0, |byte, entry| byte << 1 | u8::from(entry.written));
            out.extend(self.entries.chunks(8).map(eight));
        });
    }

    fn store_many(&mut self) {
        let (mut keys, mut ends, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (key, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.written) {
            keys.push(key as u32);
            if let Some(value) = &entry.value {
                value.encode(&mut bytes);
            }
            let end = i32::try_from(bytes.len())
                .expect("the states of one bundle stay below 2 GiB: set a smaller bundle.size");
            ends.push(end as u32 | if entry.value.is_none() { ABSENT } else { 0 });
        }
        if !keys.is_empty() {
            host::state_put_many(self.index, &keys, &ends, &bytes);
        }
    }
}

/// The bit of an end that says that there is no value.
pub(crate) const ABSENT: u32 = 1 << 31;

impl<T: Value + NonNull> AnyState for ValueState<T> {
    fn load(&mut self, slots: &mut Slots<'_>, keys: usize) -> Result<(), FrameError> {
        self.entries.clear();
        self.before = None;
        match self.access {
            Access::Column => self.load_column(slots, keys),
            Access::Call if self.prefetch => self.load_many(keys),
            Access::Call => {
                self.entries.extend((0..keys).map(|_| Entry { value: None, written: false, fetched: false }));
                Ok(())
            }
        }
    }

    fn store(&mut self, frame: &mut FrameWriter) {
        match self.access {
            Access::Column => self.store_column(frame),
            Access::Call => self.store_many(),
        }
    }
}

/// The values of the one state of an aggregate or a reduce, for the keys of a bundle.
pub(crate) struct Folded<T: Value> {
    pub(crate) values: Vec<Option<T>>,
    pub(crate) written: Vec<u8>,
    writer: T::Writer,
}

impl<T: Value> Default for Folded<T> {
    fn default() -> Self {
        Self { values: Vec::new(), written: Vec::new(), writer: T::Writer::default() }
    }
}

impl<T: Value> Folded<T> {
    pub(crate) fn load(&mut self, slots: &mut Slots<'_>, keys: usize) -> Result<(), FrameError> {
        read_nullable(slots, keys, &mut self.values)?;
        self.written.clear();
        self.written.resize(keys.div_ceil(8), 0);
        Ok(())
    }

    #[inline]
    pub(crate) fn wrote(&mut self, key: usize) {
        self.written[key / 8] |= 1 << (key % 8);
    }

    pub(crate) fn store(&mut self, frame: &mut FrameWriter) {
        if self.written.iter().all(|byte| *byte == 0) {
            return frame.absent(T::data_type().slots() + 1);
        }
        self.writer.truncate(0);
        self.writer.reserve(self.values.len());
        for value in &self.values {
            match value {
                Some(value) => value.push_to(&mut self.writer),
                None => self.writer.null(),
            }
        }
        self.writer.write(frame);
        frame.slot(&self.written);
    }
}

/// Reads a column of a type made nullable.
pub(crate) fn read_nullable<T: Value>(
    slots: &mut Slots<'_>,
    rows: usize,
    values: &mut Vec<Option<T>>,
) -> Result<(), FrameError> {
    let reader = T::open(slots, rows)?;
    values.clear();
    values.reserve(rows);
    for row in 0..rows {
        values.push(match reader.is_null(row) {
            true => None,
            // SAFETY: the column was opened with `rows` rows.
            false => Some(unsafe { T::get(&reader, row) }.map_err(|null| {
                FrameError(format!(
                    "state value {row} has a null {}, which its type does not allow",
                    null.field.unwrap_or("value")
                ))
            })?),
        });
    }
    Ok(())
}

/// The states as the job wants them reached.
pub(crate) fn bind_states(
    declared: Vec<StateDeclaration>,
    binding: &Binding,
    context: &OpenContext<'_>,
) -> Result<Vec<StateDeclaration>, Problem> {
    let mut states = declared;
    if !states.is_empty() && binding.key.is_empty() {
        let names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
        return Err(Problem::new(format!(
            "`{}` has state per key ({}), but the operator has no key: give it a `key`",
            context.function,
            names.join(", ")
        )));
    }
    for (name, access) in &binding.access {
        match states.iter_mut().find(|state| state.name == *name) {
            Some(state) => state.access = *access,
            None => {
                let had: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
                let message = format!(
                    "`{}` has no state `{name}`; it has {}",
                    context.function,
                    if had.is_empty() { "none".to_owned() } else { had.join(", ") }
                );
                return Err(Problem::new(message));
            }
        }
    }
    Ok(states)
}

/// The one state of an aggregate or a reduce, which always travels with the bundle.
pub(crate) fn bind_folded<T: Value>(
    name: &str,
    binding: &Binding,
    context: &OpenContext<'_>,
) -> Result<Vec<StateDeclaration>, Problem> {
    let data_type = T::data_type();
    if let Some((asked, Access::Call)) =
        binding.access.iter().find(|(asked, access)| asked == name && *access == Access::Call)
    {
        return Err(Problem::new(format!(
            "state `{asked}` of `{}` always travels with the bundle: leave its access at `column`",
            context.function
        )));
    }
    if let Some((asked, _)) = binding.access.iter().find(|(asked, _)| asked != name) {
        return Err(Problem::new(format!("`{}` has no state `{asked}`; it has {name}", context.function)));
    }
    Ok(vec![StateDeclaration { name: name.to_owned(), data_type, access: Access::Column }])
}

/// What `load-functions` answers for a function.
pub(crate) fn loaded(result: crate::data_type::DataType, states: Vec<StateDeclaration>) -> Loaded {
    Loaded { result, states }
}
