//! Tests of UDFs without Wasm: rows go through the same frames as in a job, in this process, where a debugger can stop.
//!
//! ```
//! use wasmill_udf::testing::Harness;
//! use wasmill_udf::udf;
//!
//! #[udf]
//! fn half(x: i64) -> Result<i64, String> {
//!     if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) }
//! }
//!
//! # fn main() {
//! let mut half = Harness::<half>::new().open().unwrap();
//! let results = half.run([(4,), (5,)]).results();
//! assert_eq!(results[0], Ok(2));
//! assert_eq!(results[1].as_ref().unwrap_err().message, "5 is odd");
//! # }
//! ```

mod datum;
mod json;
mod replay;

pub use replay::{ReplayError, Replayed, replay};

pub use crate::function::{Access, Problem};

use std::collections::HashMap;
use std::marker::PhantomData;

use crate::context::RowKind;
use crate::data_type::{DataType, Field};
use crate::frame::{BUNDLE_MAGIC, EFFECTS_MAGIC, FrameError, FrameWriter, Operation, Slots, Status};
use crate::function::{Binding, Description, Function, Kind, Loaded};
use crate::host::{self, Level};
use crate::instance::{Entry, Instance, Setup};
use crate::row::{Input, field_of};
use crate::value::{Codec, FromColumn, Value, decode_value};

/// A row that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// Which row of the bundle; for results, which key.
    pub row: usize,
    /// `error`, or `null` where a null met a field without null.
    pub kind: String,
    pub message: String,
}

/// What a bundle led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<O> {
    /// Each row given out, and which row of the bundle it came from.
    pub given: Vec<(usize, O)>,
    pub errors: Vec<RowError>,
    /// How many answers it took: more than one where the output passes 1 MiB.
    pub portions: usize,
}

impl<O> Outcome<O> {
    /// What was given out.
    ///
    /// # Panics
    /// A row failed.
    pub fn values(self) -> Vec<O> {
        assert!(self.errors.is_empty(), "rows failed: {:?}", self.errors);
        self.given.into_iter().map(|(_, value)| value).collect()
    }

    /// The value or the error of each row, for kinds that give one for each.
    pub fn results(self) -> Vec<Result<O, RowError>> {
        let mut results: Vec<(usize, Result<O, RowError>)> =
            self.given.into_iter().map(|(row, value)| (row, Ok(value))).collect();
        results.extend(self.errors.into_iter().map(|error| (error.row, Err(error))));
        results.sort_by_key(|(row, _)| *row);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// A row with all that may stand beside it.
#[derive(Clone, Debug, Default)]
pub struct Feed<K, I> {
    pub key: K,
    pub value: I,
    /// Milliseconds.
    pub event_time: Option<i64>,
    pub row_kind: RowKind,
}

impl<K, I> From<(K, I)> for Feed<K, I> {
    fn from((key, value): (K, I)) -> Self {
        Self { key, value, event_time: None, row_kind: RowKind::Insert }
    }
}

/// A function to be opened.
pub struct Builder<F, K = ()> {
    setup: Setup,
    binding: Binding,
    function: PhantomData<(F, K)>,
}

/// An open function, with the states of its keys.
pub struct Harness<F, K = ()> {
    instance: Instance,
    description: Description,
    loaded: Loaded,
    states: Vec<HashMap<Vec<u8>, Vec<u8>>>,
    frames: Vec<Vec<u8>>,
    key: Option<DataType>,
    /// Milliseconds; `None` = no watermark yet.
    pub watermark: Option<i64>,
    /// Milliseconds.
    pub processing_time: i64,
    /// What random numbers begin from.
    pub seed: u64,
    /// What was logged so far.
    pub log: Vec<(Level, String)>,
    /// How often states were asked for by calls so far.
    pub state_calls: usize,
    function: PhantomData<(F, K)>,
}

impl<F: Function> Harness<F> {
    /// A function without a key, on columns of the types that it declares.
    #[expect(clippy::new_ret_no_self, reason = "the builder's `open` gives the harness")]
    pub fn new() -> Builder<F> {
        Self::keyed_by(Vec::new())
    }

    /// A function of an operator with one key column of type `K`.
    pub fn keyed<K: Value>(name: &str) -> Builder<F, K> {
        Self::keyed_by(vec![field_of::<K>(name)])
    }

    fn keyed_by<K>(key: Vec<Field>) -> Builder<F, K> {
        let description = F::describe();
        let binding =
            Binding { function: description.name, arguments: description.arguments, key, ..Binding::default() };
        let setup =
            Setup { job: "test".to_owned(), operator: binding.function.clone(), parallelism: 1, ..Setup::default() };
        Builder { setup, binding, function: PhantomData }
    }
}

impl<F: Function, K> Builder<F, K> {
    /// Sets a parameter.
    pub fn parameter(mut self, name: &str, value: impl Into<String>) -> Self {
        self.binding.parameters.push((name.to_owned(), value.into()));
        self
    }

    /// Grants a file.
    pub fn resource(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.setup.resources.push((name.to_owned(), content.into()));
        self
    }

    /// Sets how a state is reached.
    pub fn access(mut self, state: &str, access: Access) -> Self {
        self.binding.access.push((state.to_owned(), access));
        self
    }

    /// Opens the function.
    pub fn open(mut self) -> Result<Harness<F, K>, Problem> {
        let key = self.binding.key.first().map(|field| field.data_type.clone());
        self.setup.bindings.push(self.binding);
        let instance = Instance::load(&[Entry::of::<F>()], &self.setup)?;
        let loaded = instance.loaded().next().expect("one binding was loaded").clone();
        let log = host::with(|host| std::mem::take(&mut host.log));
        Ok(Harness {
            instance,
            description: F::describe(),
            states: vec![HashMap::new(); loaded.states.len()],
            loaded,
            frames: Vec::new(),
            key,
            watermark: None,
            processing_time: 0,
            seed: 0,
            log,
            state_calls: 0,
            function: PhantomData,
        })
    }
}

/// What goes into one bundle.
struct Rows<W> {
    arguments: Option<W>,
    rows: usize,
    event_times: Vec<[u8; 8]>,
    row_kinds: Vec<u8>,
    key_index: Vec<[u8; 4]>,
    /// Encoded keys, in order of their index.
    keys: Vec<Vec<u8>>,
    /// Encoded accumulators to merge.
    sources: Vec<Option<Vec<u8>>>,
}

impl<W> Default for Rows<W> {
    fn default() -> Self {
        Self {
            arguments: None,
            rows: 0,
            event_times: Vec::new(),
            row_kinds: Vec::new(),
            key_index: Vec::new(),
            keys: Vec::new(),
            sources: Vec::new(),
        }
    }
}

impl<W> Rows<W> {
    fn add_key(&mut self, key: Vec<u8>) {
        let at = self.keys.iter().position(|had| *had == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        });
        self.key_index.push((at as u32).to_le_bytes());
    }
}

fn encoded<T: Codec>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

impl<F: Function> Harness<F> {
    /// Runs a bundle of rows without a key: tuples of arguments, or row structs.
    ///
    /// # Panics
    /// The function panics, or the frames are broken.
    pub fn run<'a, 'e>(&'e mut self, rows: impl IntoIterator<Item = F::Input<'a>>) -> Outcome<F::Output<'e>> {
        let mut bundle = Rows::default();
        let mut writers = <F::Input<'static> as Input<'static>>::writers();
        for row in rows {
            row.push_to(&mut writers);
            bundle.rows += 1;
        }
        bundle.arguments = Some(writers);
        self.call(Operation::Process, &bundle)
    }
}

impl<F: Function, K: Value> Harness<F, K> {
    /// Runs a bundle of rows with their keys: `(key, row)` pairs, or [`Feed`]s.
    ///
    /// # Panics
    /// The function panics, or the frames are broken.
    pub fn process<'e>(
        &'e mut self,
        rows: impl IntoIterator<Item = impl Into<Feed<K, F::Input<'static>>>>,
    ) -> Outcome<F::Output<'e>> {
        self.feed(Operation::Process, rows)
    }

    /// Takes rows into the accumulators of their keys.
    ///
    /// # Panics
    /// As [`Harness::process`].
    pub fn accumulate(
        &mut self,
        rows: impl IntoIterator<Item = impl Into<Feed<K, F::Input<'static>>>>,
    ) -> Vec<RowError> {
        self.feed(Operation::Accumulate, rows).errors
    }

    /// Takes rows out of the accumulators of their keys.
    ///
    /// # Panics
    /// As [`Harness::process`].
    pub fn retract(&mut self, rows: impl IntoIterator<Item = impl Into<Feed<K, F::Input<'static>>>>) -> Vec<RowError> {
        self.feed(Operation::Retract, rows).errors
    }

    /// Takes accumulators into those of their keys; `None` = a new one.
    ///
    /// # Panics
    /// As [`Harness::process`].
    pub fn merge<A: Value>(&mut self, sources: impl IntoIterator<Item = (K, Option<A>)>) -> Vec<RowError> {
        let mut bundle = Rows::default();
        for (key, source) in sources {
            bundle.add_key(encoded(&key));
            bundle.sources.push(source.as_ref().map(encoded));
            bundle.rows += 1;
        }
        self.call(Operation::Merge, &bundle).errors
    }

    /// The results of the accumulators of keys.
    ///
    /// # Panics
    /// As [`Harness::process`].
    pub fn result<'e>(&'e mut self, keys: impl IntoIterator<Item = K>) -> Outcome<F::Output<'e>> {
        let mut bundle = Rows { arguments: Some(<F::Input<'static> as Input<'static>>::writers()), ..Rows::default() };
        keys.into_iter().for_each(|key| bundle.add_key(encoded(&key)));
        bundle.key_index.clear();
        self.call(Operation::Result, &bundle)
    }

    /// The value of a key's state.
    ///
    /// # Panics
    /// There is no such state, or it has another type.
    pub fn state<T: Value>(&self, name: &str, key: &K) -> Option<T> {
        let bytes = self.states[self.state_index::<T>(name)].get(&encoded(key))?;
        Some(decode_value(bytes).expect("the state's type was compared"))
    }

    /// Sets the value of a key's state.
    ///
    /// # Panics
    /// There is no such state, or it has another type.
    pub fn set_state<T: Value>(&mut self, name: &str, key: &K, value: &T) {
        let index = self.state_index::<T>(name);
        self.states[index].insert(encoded(key), encoded(value));
    }

    fn state_index<T: Value>(&self, name: &str) -> usize {
        let index = self.loaded.states.iter().position(|state| state.name == name);
        let index = index.unwrap_or_else(|| panic!("`{}` has no state `{name}`", self.description.name));
        let (has, asked) = (&self.loaded.states[index].data_type, T::data_type());
        assert!(*has == asked, "state `{name}` is {has}, {asked} was asked for");
        index
    }

    fn feed<'e>(
        &'e mut self,
        operation: Operation,
        rows: impl IntoIterator<Item = impl Into<Feed<K, F::Input<'static>>>>,
    ) -> Outcome<F::Output<'e>> {
        let mut bundle = Rows::default();
        let mut writers = <F::Input<'static> as Input<'static>>::writers();
        for row in rows {
            let feed = row.into();
            feed.value.push_to(&mut writers);
            bundle.add_key(encoded(&feed.key));
            bundle.event_times.push(feed.event_time.unwrap_or(i64::MIN).to_le_bytes());
            bundle.row_kinds.push(feed.row_kind as u8);
            bundle.rows += 1;
        }
        bundle.arguments = Some(writers);
        self.call(operation, &bundle)
    }
}

impl<F: Function, K> Harness<F, K> {
    /// What `load-functions` answered.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    fn call<'e>(&'e mut self, operation: Operation, rows: &Rows<F::Writers>) -> Outcome<F::Output<'e>> {
        let frame = self.encode(operation, rows).expect("the stored states have their types");
        self.frames.clear();
        self.lend_states(rows);
        let mut answer = self.instance.run(&frame).unwrap_or_else(|error| panic!("{error}")).to_vec();
        while answer[8] == Status::More as u8 {
            self.frames.push(answer);
            answer = self.instance.resume(&frame, &[]).unwrap_or_else(|error| panic!("{error}")).to_vec();
        }
        self.frames.push(answer);
        self.take_states_back(rows);
        let Self { frames, loaded, states, .. } = self;
        let mut outcome = Outcome { given: Vec::new(), errors: Vec::new(), portions: frames.len() };
        for frame in frames.iter() {
            decode_into::<F::Output<'e>>(frame, loaded, states, &rows.keys, &mut outcome)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        let failed: Vec<usize> = outcome.errors.iter().map(|error| error.row).collect();
        outcome.given.retain(|(row, _)| !failed.contains(row));
        outcome
    }

    /// The bundle as the host would write it.
    fn encode(&self, operation: Operation, rows: &Rows<F::Writers>) -> Result<Vec<u8>, crate::value::CodecError> {
        let column_states =
            || self.loaded.states.iter().enumerate().filter(|(_, state)| state.access == Access::Column);
        let argument_slots: usize = self.description.arguments.iter().map(|field| field.data_type.slots()).sum();
        let state_slots: usize = column_states().map(|(_, state)| state.data_type.slots()).sum();
        let copies = if self.description.kind == Kind::Aggregate { 2 } else { 1 };
        let key_slots = self.key.as_ref().map_or(0, DataType::slots);
        let mut frame = FrameWriter::default();
        frame.begin(BUNDLE_MAGIC, argument_slots + 3 + key_slots + 3 + copies * state_slots);
        frame.header_u32(12, operation as u32);
        frame.header_u32(16, rows.rows as u32);
        frame.header_u32(20, rows.keys.len() as u32);
        frame.header_u64(24, self.watermark.unwrap_or(i64::MIN) as u64);
        frame.header_u64(32, self.processing_time as u64);
        frame.header_u64(40, self.seed);
        match &rows.arguments {
            Some(writers) => <F::Input<'static> as Input<'static>>::write(writers, &mut frame),
            None => frame.absent(argument_slots),
        }
        let no_times = rows.event_times.iter().all(|time| *time == i64::MIN.to_le_bytes());
        frame.slot(if no_times { &[] } else { rows.event_times.as_flattened() });
        frame.slot(if rows.row_kinds.iter().all(|kind| *kind == 0) { &[] } else { &rows.row_kinds });
        frame.slot(rows.key_index.as_flattened());
        if let Some(key) = &self.key {
            write_values(key, rows.keys.iter().map(Some), &mut frame)?;
        }
        frame.absent(3);
        for (index, state) in column_states() {
            let values = rows.keys.iter().map(|key| self.states[index].get(key));
            write_values(&state.data_type, values, &mut frame)?;
        }
        if copies == 2 {
            match operation {
                Operation::Merge => {
                    write_values(&self.loaded.states[0].data_type, rows.sources.iter().map(Option::as_ref), &mut frame)?
                }
                _ => frame.absent(state_slots),
            }
        }
        Ok(frame.finish().to_vec())
    }

    /// Puts the states with access `call` where the function will look for them.
    fn lend_states(&self, rows: &Rows<F::Writers>) {
        host::with(|host| {
            host.state.clear();
            for (index, values) in self.call_states() {
                for (key, bytes) in rows.keys.iter().enumerate().filter_map(|(at, key)| Some((at, values.get(key)?))) {
                    host.state.insert((index as u32, key as u32), bytes.clone());
                }
            }
        });
    }

    fn call_states(&self) -> impl Iterator<Item = (usize, &HashMap<Vec<u8>, Vec<u8>>)> {
        self.states.iter().enumerate().filter(|(index, _)| self.loaded.states[*index].access == Access::Call)
    }

    fn take_states_back(&mut self, rows: &Rows<F::Writers>) {
        let called: Vec<usize> = self.call_states().map(|(index, _)| index).collect();
        host::with(|host| {
            self.log.append(&mut host.log);
            self.state_calls += std::mem::take(&mut host.state_calls);
            for index in called {
                for (at, key) in rows.keys.iter().enumerate() {
                    match host.state.remove(&(index as u32, at as u32)) {
                        Some(bytes) => self.states[index].insert(key.clone(), bytes),
                        None => self.states[index].remove(key),
                    };
                }
            }
        });
    }
}

/// Fills the slots of a column with stored values.
fn write_values<'v>(
    data_type: &DataType,
    values: impl Iterator<Item = Option<&'v Vec<u8>>>,
    frame: &mut FrameWriter,
) -> Result<(), crate::value::CodecError> {
    let decode = |value: Option<&Vec<u8>>| match value {
        Some(bytes) => datum::decode(data_type, &mut bytes.as_slice()),
        None => Ok(datum::Datum::Null),
    };
    let values = values.map(decode).collect::<Result<Vec<_>, _>>()?;
    datum::write(data_type, &values.iter().collect::<Vec<_>>(), frame);
    Ok(())
}

/// Reads effects as the host would.
fn decode_into<'e, O: FromColumn<'e>>(
    frame: &'e [u8],
    loaded: &Loaded,
    states: &mut [HashMap<Vec<u8>, Vec<u8>>],
    keys: &[Vec<u8>],
    outcome: &mut Outcome<O>,
) -> Result<(), FrameError> {
    let mut slots = Slots::open(frame, EFFECTS_MAGIC)?;
    let rows = u32::from_le_bytes([frame[12], frame[13], frame[14], frame[15]]) as usize;
    let reader = O::open(&mut slots, rows)?;
    let sources = slots.optional::<4>(rows)?;
    slots.skip(1)?;
    for row in 0..rows {
        // SAFETY: the column was opened with `rows` rows.
        let value = unsafe { O::get(&reader, row) }
            .map_err(|null| FrameError(format!("output row {row} has a null {:?}", null.field)))?;
        outcome.given.push((sources.map_or(row, |sources| u32::from_le_bytes(sources[row]) as usize), value));
    }
    for (index, state) in loaded.states.iter().enumerate().filter(|(_, state)| state.access == Access::Column) {
        let mut column = slots.clone();
        slots.skip(state.data_type.slots())?;
        let Some(written) = slots.bits(keys.len())? else { continue };
        let values = datum::read(&state.data_type, &mut column, keys.len())?;
        for (at, (key, value)) in
            keys.iter().zip(values).enumerate().filter(|(at, _)| written[at / 8] & (1 << (at % 8)) != 0)
        {
            debug_assert!(at < keys.len());
            if value == datum::Datum::Null {
                states[index].remove(key);
                continue;
            }
            let mut bytes = Vec::new();
            datum::encode(&state.data_type, &value, &mut bytes);
            states[index].insert(key.clone(), bytes);
        }
    }
    slots.skip(3)?;
    read_errors(&mut slots, &mut outcome.errors)?;
    slots.skip(2)?;
    if slots.left() > 0 {
        return Err(FrameError(format!("{} slots too many", slots.left())));
    }
    Ok(())
}

fn read_errors(slots: &mut Slots<'_>, errors: &mut Vec<RowError>) -> Result<(), FrameError> {
    let rows = slots.take()?.as_chunks::<4>().0;
    let mut texts = || -> Result<Vec<String>, FrameError> {
        let (ends, data) = (slots.take()?.as_chunks::<4>().0, slots.take()?);
        let end = |at: usize| u32::from_le_bytes(ends[at]) as usize;
        Ok((0..rows.len()).map(|row| String::from_utf8_lossy(&data[end(row)..end(row + 1)]).into_owned()).collect())
    };
    let (kinds, messages, _tracebacks) = (texts()?, texts()?, texts()?);
    let all = rows.iter().zip(kinds).zip(messages);
    errors.extend(all.map(|((row, kind), message)| RowError { row: u32::from_le_bytes(*row) as usize, kind, message }));
    Ok(())
}
