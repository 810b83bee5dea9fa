use std::collections::HashMap;

use arrow::array::{Array as _, AsArray as _, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::checkpoint::keyed::KeyedReader;
use crate::checkpoint::snapshot::Alignment;
use crate::key::KeyEncoder;

/// A counter that travels with the bundle, and one that is reached by call.
fn declared() -> [StateDeclaration; 2] {
    [("column", Access::Column), ("call", Access::Call)].map(|(name, access)| StateDeclaration {
        name: name.into(),
        data_type: DataType::Int64,
        access,
    })
}

fn input() -> Schema {
    Schema::new(vec![Field::new("key", DataType::Int64, false)])
}

/// What checkpoints tell of a key.
type Told = HashMap<Vec<u8>, [Option<i64>; 2]>;

struct Tried {
    state: KeyedState,
    encoder: KeyEncoder,
    layout: KeyLayout,
    windowed: bool,
    _dir: tempfile::TempDir,
}

impl Tried {
    fn new(memory_bytes: Option<u64>, windowed: bool) -> Tried {
        let dir = tempfile::tempdir().unwrap();
        let backend = match memory_bytes {
            None => StateBackend::Memory,
            Some(memory_bytes) => StateBackend::Disk { memory_bytes, dir: Some(dir.path().to_owned()) },
        };
        let encoder = KeyEncoder::new(&input(), &[0]).unwrap();
        let width = encoder.width().map(|width| width + if windowed { 8 } else { 0 });
        let state = KeyedState::with(width, windowed, &declared(), Some(Changes::default()), &backend);
        Tried { state, encoder, layout: KeyLayout::new(&input(), &[0], windowed), windowed, _dir: dir }
    }

    fn key(&self, key: u8) -> Vec<u8> {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![i64::from(key)]));
        let rows = arrow::array::RecordBatch::try_new(Arc::new(input()), vec![column]).unwrap();
        let encoded = self.encoder.encode(&rows).unwrap();
        let window = if self.windowed { (i64::from(key % 3) - 1).to_be_bytes().to_vec() } else { Vec::new() };
        [encoded.get(0), &window].concat()
    }

    /// A bundle that reads some keys and writes what `write` makes of what they had.
    fn bundle(&mut self, keys: &[u8], write: impl Fn(usize, [Option<i64>; 2]) -> [Option<i64>; 2]) {
        let slots: Vec<u32> = keys.iter().map(|key| self.state.slot(&self.key(*key))).collect();
        self.state.load().unwrap();
        let before = self.values(&slots);
        let after: Vec<_> = before.into_iter().enumerate().map(|(index, before)| write(index, before)).collect();
        for column in 0..2 {
            let values: ArrayRef = Arc::new(Int64Array::from_iter(after.iter().map(|after| after[column])));
            self.state.states[column].set(&slots, &values).unwrap();
        }
        self.state.settle(&slots, true);
        self.state.finish().unwrap();
    }

    fn values(&self, slots: &[u32]) -> Vec<[Option<i64>; 2]> {
        let columns: Vec<ArrayRef> = self
            .state
            .states
            .iter()
            .map(|state| match &state.held {
                Held::Column(column) => column.gather(slots).unwrap(),
                Held::Call(bytes) => value_column::decode(&DataType::Int64, bytes.at(slots)).unwrap(),
            })
            .collect();
        let value = |column: usize, row: usize| {
            let column = columns[column].as_primitive::<Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        (0..slots.len()).map(|row| [value(0, row), value(1, row)]).collect()
    }

    fn read(&mut self, key: u8) -> [Option<i64>; 2] {
        let slot = self.state.slot(&self.key(key));
        self.state.load().unwrap();
        let value = self.values(&[slot])[0];
        self.state.settle(&[slot], false);
        self.state.finish().unwrap();
        value
    }

    /// Adds to `told` what the checkpoint tells, as who goes on from it would.
    fn checkpoint(&mut self, barrier: &Barrier, mut told: Told) -> Told {
        let asked = self.state.asked(barrier).unwrap();
        let slots = self.state.slots_of(&asked);
        let snapshot = self.state.snapshot(&asked, &slots, &self.layout).unwrap();
        // Work goes on before the files are written.
        self.bundle(&[200], |_, _| [Some(-1), Some(-1)]);
        self.bundle(&[200], |_, _| [None, None]);
        if snapshot.full {
            told.clear();
        }
        let files = |_: usize, file: Vec<u8>| {
            let mut reader = KeyedReader::new(&file.into())?;
            while let Some(batch) = reader.next()? {
                let unique: std::collections::HashSet<&[u8]> = batch.keys.iter().collect();
                assert_eq!(unique.len(), batch.keys.len(), "a key stands in a file once");
                for (row, key) in batch.keys.iter().enumerate() {
                    let value = |column: &ArrayRef| {
                        let column = column.as_primitive::<Int64Type>();
                        column.is_valid(row).then(|| column.value(row))
                    };
                    match [value(&batch.states[0]), value(&batch.states[1])] {
                        [None, None] => drop(told.remove(key)),
                        values => drop(told.insert(key.to_vec(), values)),
                    }
                }
            }
            Ok(())
        };
        snapshot.files(files).unwrap();
        told
    }
}

fn barrier(checkpoint: u64, confirmed: u64, full: bool) -> Barrier {
    Barrier { checkpoint, confirmed, full, alignment: Alignment::Aligned, stop: None }
}

#[derive(Debug, Clone)]
enum Act {
    /// Adds to both states of some keys.
    Add(Vec<u8>),
    /// Clears one state, or both.
    Clear(u8, bool),
    Read(u8),
    /// Takes a checkpoint; it completes or fails; it may have to be full.
    Checkpoint(bool, bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => prop::collection::hash_set(0u8..60, 1..12).prop_map(|keys| Act::Add(keys.into_iter().collect())),
        2 => (0u8..60, any::<bool>()).prop_map(|(key, both)| Act::Clear(key, both)),
        2 => (0u8..60).prop_map(Act::Read),
        2 => (any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(completes, full)| Act::Checkpoint(completes, full)),
    ]
}

/// Memory for all keys, for none, for a few.
const MEMORY: [Option<u64>; 3] = [None, Some(1), Some(3000)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever lies on disk: what is read is what was written, and a confirmed checkpoint with what later ones tell is the state.
    #[test]
    fn where_keys_are_shows_in_nothing(
        memory in prop::sample::select(&MEMORY[..]),
        windowed in any::<bool>(),
        acts in prop::collection::vec(act(), 0..60),
    ) {
        let mut tried = Tried::new(memory, windowed);
        let mut model: HashMap<u8, [Option<i64>; 2]> = HashMap::new();
        let mut complete: HashMap<u64, Told> = HashMap::new();
        let (mut checkpoint, mut confirmed) = (0, 0);
        for act in acts {
            match act {
                Act::Add(keys) => {
                    tried.bundle(&keys, |_, before| [Some(before[0].unwrap_or(0) + 1), Some(before[1].unwrap_or(0) + 2)]);
                    for key in keys {
                        let value = model.entry(key).or_default();
                        *value = [Some(value[0].unwrap_or(0) + 1), Some(value[1].unwrap_or(0) + 2)];
                    }
                }
                Act::Clear(key, both) => {
                    tried.bundle(&[key], |_, before| [None, if both { None } else { before[1] }]);
                    let value = model.get(&key).copied().unwrap_or_default();
                    match (both, value[1]) {
                        (false, Some(_)) => drop(model.insert(key, [None, value[1]])),
                        _ => drop(model.remove(&key)),
                    }
                }
                Act::Read(key) => prop_assert_eq!(tried.read(key), model.get(&key).copied().unwrap_or_default()),
                Act::Checkpoint(completes, full) => {
                    checkpoint += 1;
                    let base = complete.get(&confirmed).cloned().unwrap_or_default();
                    let told = tried.checkpoint(&barrier(checkpoint, confirmed, full), base);
                    let state: Told = model.iter().map(|(key, value)| (tried.key(*key), *value)).collect();
                    prop_assert_eq!(&told, &state);
                    // A savepoint stands for itself: nothing builds on it.
                    if completes && !full {
                        complete.insert(checkpoint, told);
                        confirmed = checkpoint;
                    }
                }
            }
        }
        for key in 0..60 {
            prop_assert_eq!(tried.read(key), model.get(&key).copied().unwrap_or_default());
        }
    }
}

#[test]
fn memory_is_kept_to() {
    let mut tried = Tried::new(Some(4000), false);
    for round in 0..40u8 {
        let keys: Vec<u8> = (0..5).map(|key| round * 5 + key).collect();
        tried.bundle(&keys, |_, _| [Some(1), None]);
        assert!(tried.state.bytes() <= 2000, "{} bytes in round {round}", tried.state.bytes());
    }
    let disk = tried.state.disk.as_ref().unwrap();
    assert_eq!(tried.state.table.len() + disk.keys - disk.keys_in_memory, 200);
    assert!(tried.state.table.len() > 5 && disk.keys > 100, "{} and {}", tried.state.table.len(), disk.keys);
}

/// What was used last stays in memory.
#[test]
fn keys_that_are_used_stay() {
    let mut tried = Tried::new(Some(4000), false);
    tried.bundle(&[199], |_, _| [Some(1), None]);
    for round in 0..190 {
        tried.bundle(&[round, 199], |_, before| [Some(before[0].unwrap_or(0) + 1), None]);
        assert!(tried.state.table.find(&tried.key(199)).is_some(), "gone in round {round}");
    }
    assert_eq!(tried.read(199), [Some(191), None]);
}

#[test]
fn a_folder_that_cannot_be_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let backend = StateBackend::Disk { memory_bytes: 1, dir: Some(file.path().join("state")) };
    let mut state = KeyedState::with(Some(9), false, &declared(), None, &backend);
    let slot = state.slot(&[1; 9]);
    state.load().unwrap();
    let values: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    state.states[0].set(&[slot], &values).unwrap();
    state.settle(&[slot], true);
    let error = state.finish().unwrap_err().to_string();
    assert!(error.contains("(state.backend.disk.dir)"), "{error}");
}

#[test]
fn stores_of_processes_that_were_killed_are_removed() {
    let parent = tempfile::tempdir().unwrap();
    let store = Store::create(parent.path(), 1).unwrap();
    let left = parent.path().join("wasmill-state-left");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("lock"), "").unwrap();
    let begun = parent.path().join("wasmill-state-begun");
    std::fs::create_dir(&begun).unwrap();
    let other = Store::create(parent.path(), 1).unwrap();
    assert!(!left.exists());
    // Without its lock nobody knows whose it is.
    assert!(begun.exists());
    drop((store, other));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn rows_that_are_cut_are_refused() {
    let fields = declared().map(|declared| StateField { name: declared.name, data_type: declared.data_type });
    let fields: Vec<&StateField> = fields.iter().collect();
    let mut row = Vec::new();
    push_value(&mut row, Some(&7i64.to_le_bytes()));
    push_value(&mut row, None);
    let columns = decode_rows(&fields, [row.as_slice()].into_iter()).unwrap();
    assert_eq!((columns[0].as_primitive::<Int64Type>().value(0), columns[1].null_count()), (7, 1));
    for end in 0..row.len() {
        assert!(decode_rows(&fields, [&row[..end]].into_iter()).is_err(), "cut at {end}");
    }
}
