//! Keys: their bytes, hashes and key groups, and the table that gives each live key a slot.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Can a column of this type be (part of) a key? Maps cannot: two equal ones may list their entries differently.
pub fn is_keyable(data_type: &DataType) -> bool {
    fn has_map(data_type: &DataType) -> bool {
        match data_type {
            DataType::Map(..) => true,
            DataType::List(field) | DataType::LargeList(field) => has_map(field.data_type()),
            DataType::Struct(fields) => fields.iter().any(|field| has_map(field.data_type())),
            _ => false,
        }
    }
    !has_map(data_type) && RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

/// Turns key columns into bytes that are equal exactly if the keys are. A null is a value like any other.
pub(crate) struct KeyEncoder {
    converter: RowConverter,
    columns: Vec<usize>,
    width: Option<usize>,
}

impl KeyEncoder {
    /// `columns`: the key's columns in `schema`.
    pub(crate) fn new(schema: &Schema, columns: &[usize]) -> Result<KeyEncoder, ArrowError> {
        let field = |&column: &usize| SortField::new(schema.field(column).data_type().clone());
        let sort_fields = columns.iter().map(field).collect();
        // A value of fixed width is preceded by a byte that says whether it is null.
        let width = |&column: &usize| match schema.field(column).data_type() {
            DataType::Boolean => Some(2),
            data_type => data_type.primitive_width().map(|width| 1 + width),
        };
        let width = columns.iter().map(width).sum();
        Ok(KeyEncoder { converter: RowConverter::new(sort_fields)?, columns: columns.to_vec(), width })
    }

    /// How many bytes every key has, if all have the same.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// The bytes of each row's key. Without key columns every row has the same key, of no bytes.
    pub(crate) fn encode(&self, rows: &RecordBatch) -> Result<EncodedKeys, ArrowError> {
        if self.columns.is_empty() {
            return Ok(EncodedKeys { rows: None });
        }
        let key: Vec<ArrayRef> = self.columns.iter().map(|&column| rows.column(column).clone()).collect();
        Ok(EncodedKeys { rows: Some(self.converter.convert_columns(&key)?) })
    }

    /// Back to columns.
    pub(crate) fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, ArrowError> {
        if self.columns.is_empty() {
            return Ok(Vec::new());
        }
        let parser = self.converter.parser();
        self.converter.convert_rows(keys.map(|key| parser.parse(key)))
    }
}

#[derive(Default)]
pub(crate) struct EncodedKeys {
    rows: Option<Rows>,
}

impl EncodedKeys {
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        self.rows.as_ref().map_or(&[], |rows| rows.row(row).data())
    }
}

/// The hash of a key's bytes: the same in every run and on every machine.
pub(crate) fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The key group of a hash, as Flink has it: MurmurHash3 of the 32-bit hash, modulo the number of groups.
pub fn key_group(hash: u64, max_parallelism: usize) -> usize {
    murmur((hash ^ (hash >> 32)) as u32) as usize % max_parallelism
}

/// The subtask that owns a key group: group · parallelism / max, as in Flink.
pub fn subtask_of(group: usize, parallelism: usize, max_parallelism: usize) -> usize {
    group * parallelism / max_parallelism
}

/// `MathUtils.murmurHash` of Flink: MurmurHash3 (x86, 32 bit, seed 0) of four bytes, made non-negative.
fn murmur(code: u32) -> u32 {
    let mut hash = code.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64) ^ 4;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^= hash >> 16;
    match hash as i32 {
        i32::MIN => 0,
        signed => signed.unsigned_abs(),
    }
}

/// Live keys, each with a slot: a small number under which state columns keep its values. Slots are used again.
pub(crate) struct KeyTable {
    slots: HashTable<u32>,
    keys: Keys,
    hashes: Vec<u64>,
    free: Vec<u32>,
    /// Of keys of any length: theirs, and what holds them.
    own_bytes: usize,
    /// Slots given to new keys, until who wants to know has taken them.
    pub added: Vec<u32>,
}

/// The bytes of keys by slot. Behind those that are in use may lie anything.
enum Keys {
    /// All of one length lie in one piece: a look-up then reads one place less, and compares without a call.
    Fixed {
        width: usize,
        bytes: Vec<u8>,
    },
    Any(Vec<Box<[u8]>>),
}

impl Keys {
    fn get(&self, slot: u32) -> &[u8] {
        match self {
            Keys::Fixed { width, bytes } => &bytes[slot as usize * width..][..*width],
            Keys::Any(keys) => &keys[slot as usize],
        }
    }

    /// Of keys that have memory of their own.
    fn own_bytes(&self, slot: u32) -> usize {
        match self {
            Keys::Fixed { .. } => 0,
            Keys::Any(keys) => keys[slot as usize].len(),
        }
    }

    #[inline]
    fn is(&self, slot: u32, key: &[u8]) -> bool {
        fn same<const N: usize>(bytes: &[u8], slot: u32, key: &[u8]) -> bool {
            // Never out of range: the caller has found the slot.
            bytes.get(slot as usize * N..).and_then(<[u8]>::first_chunk::<N>) == key.first_chunk::<N>()
        }
        match self {
            // One column of eight bytes, alone and with a window.
            Keys::Fixed { width: 9, bytes } => same::<9>(bytes, slot, key),
            Keys::Fixed { width: 17, bytes } => same::<17>(bytes, slot, key),
            _ => self.get(slot) == key,
        }
    }

    fn set(&mut self, slot: u32, key: &[u8]) {
        match self {
            Keys::Fixed { width, bytes } => {
                assert_eq!(key.len(), *width, "keys of one table are of one length");
                let at = slot as usize * *width;
                if bytes.len() == at {
                    bytes.extend_from_slice(key);
                } else {
                    bytes[at..at + *width].copy_from_slice(key);
                }
            }
            Keys::Any(keys) if keys.len() == slot as usize => keys.push(key.into()),
            Keys::Any(keys) => keys[slot as usize] = key.into(),
        }
    }
}

impl KeyTable {
    /// For keys that all have `width` bytes, or (`None`) each its own number of them.
    pub(crate) fn new(width: Option<usize>) -> KeyTable {
        let keys = match width {
            Some(width) => Keys::Fixed { width, bytes: Vec::new() },
            None => Keys::Any(Vec::new()),
        };
        KeyTable {
            slots: HashTable::new(),
            keys,
            hashes: Vec::new(),
            free: Vec::new(),
            own_bytes: 0,
            added: Vec::new(),
        }
    }

    /// Live keys.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// About what live keys take, with what is kept of each slot elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        let key = match &self.keys {
            Keys::Fixed { width, .. } => *width,
            Keys::Any(_) => size_of::<Box<[u8]>>(),
        };
        // A hash, a place in the table, and one among those that a bundle has seen.
        self.len() * (key + size_of::<u64>() + 2 * size_of::<u32>() + size_of::<(u64, u32)>()) + self.own_bytes
    }

    /// The slots of live keys, ascending.
    pub(crate) fn live(&self) -> Vec<u32> {
        let mut live = vec![true; self.capacity()];
        self.free.iter().for_each(|slot| live[*slot as usize] = false);
        (0..self.capacity() as u32).filter(|slot| live[*slot as usize]).collect()
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        self.slots.find(hash(key), |slot| self.keys.is(*slot, key)).copied()
    }

    /// Slots ever given: the length that state columns need.
    pub(crate) fn capacity(&self) -> usize {
        self.hashes.len()
    }

    pub(crate) fn slot(&mut self, key: &[u8], hash: u64) -> u32 {
        if let Some(slot) = self.slots.find(hash, |slot| self.keys.is(*slot, key)) {
            return *slot;
        }
        self.add(key, hash)
    }

    #[cold]
    fn add(&mut self, key: &[u8], hash: u64) -> u32 {
        let hashes = &mut self.hashes;
        let slot = self.free.pop().unwrap_or_else(|| {
            hashes.push(0);
            u32::try_from(hashes.len() - 1).expect("a task holds fewer than 2^32 keys: memory ends before")
        });
        self.keys.set(slot, key);
        self.own_bytes += self.keys.own_bytes(slot);
        self.added.push(slot);
        hashes[slot as usize] = hash;
        self.slots.insert_unique(hash, slot, |slot| hashes[*slot as usize]);
        slot
    }

    pub(crate) fn key(&self, slot: u32) -> &[u8] {
        self.keys.get(slot)
    }

    pub(crate) fn release(&mut self, slot: u32) {
        let hash = self.hashes[slot as usize];
        if let Ok(entry) = self.slots.find_entry(hash, |other| *other == slot) {
            entry.remove();
            self.own_bytes -= self.keys.own_bytes(slot);
            if let Keys::Any(keys) = &mut self.keys {
                keys[slot as usize] = Box::default();
            }
            self.free.push(slot);
        }
    }
}

/// The distinct slots of one bundle and each row's index among them.
#[derive(Default)]
pub(crate) struct BundleKeys {
    /// Bundle index → slot.
    pub slots: Vec<u32>,
    /// Bundle index → the first row with that key.
    pub first: Vec<u32>,
    /// Row → bundle index.
    pub index: Vec<u32>,
    /// Slot → (bundle in which it was last seen, index there).
    seen: Vec<(u64, u32)>,
    bundle: u64,
}

impl BundleKeys {
    pub(crate) fn clear(&mut self) {
        self.bundle += 1;
        self.slots.clear();
        self.first.clear();
        self.index.clear();
    }

    /// Adds the next row, whose key has `slot`.
    pub(crate) fn push(&mut self, slot: u32) {
        if self.seen.len() <= slot as usize {
            self.seen.resize(slot as usize + 1, (0, 0));
        }
        let seen = &mut self.seen[slot as usize];
        if seen.0 != self.bundle {
            *seen = (self.bundle, self.slots.len() as u32);
            self.slots.push(slot);
            self.first.push(self.index.len() as u32);
        }
        self.index.push(seen.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Field;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Arc;

    /// Conformance case K1: executed with Flink's own class.
    #[test]
    fn murmur_is_flinks() {
        for (code, expected) in [(0, 593_689_054), (1, 68_075_478), (-1, 1_982_413_648), (42, 1_134_849_565)] {
            assert_eq!(murmur(code as u32), expected, "{code}");
        }
        let owners = |p| (0..128).map(|group| subtask_of(group, p, 128)).collect::<Vec<_>>();
        let three = owners(3);
        assert_eq!((three[42], three[43], three[85], three[86], three[127]), (0, 1, 1, 2, 2));
    }

    #[test]
    fn a_null_is_a_key_like_any_other() {
        let fields = vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int64, true)];
        let schema = Arc::new(Schema::new(fields));
        let encoder = KeyEncoder::new(&schema, &[1, 0]).unwrap();
        let text: ArrayRef = Arc::new(StringArray::from(vec![None, Some(""), None]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(1)]));
        let batch = RecordBatch::try_new(schema, vec![text.clone(), number.clone()]).unwrap();
        let keys = encoder.encode(&batch).unwrap();
        assert_eq!(keys.get(0), keys.get(2));
        assert_ne!(keys.get(0), keys.get(1));
        let back = encoder.decode((0..3).map(|row| keys.get(row))).unwrap();
        assert_eq!((&back[0], &back[1]), (&number, &text));
    }

    proptest! {
        /// Against a map: the same key has the same slot as long as it lives, and no two live keys share one.
        #[test]
        fn slots_are_one_to_one(fixed in any::<bool>(), steps in prop::collection::vec((any::<bool>(), 0u8..20), 0..200)) {
            let mut table = KeyTable::new(fixed.then_some(1));
            let mut model: HashMap<u8, u32> = HashMap::new();
            for (add, key) in steps {
                if add {
                    let slot = table.slot(&[key], hash(&[key]));
                    prop_assert_eq!(*model.entry(key).or_insert(slot), slot);
                    prop_assert_eq!(table.key(slot), &[key]);
                } else if let Some(slot) = model.remove(&key) {
                    table.release(slot);
                }
                let distinct: std::collections::HashSet<_> = model.values().collect();
                prop_assert_eq!(distinct.len(), model.len());
                prop_assert_eq!(table.len(), model.len());
            }
            prop_assert!(table.capacity() <= 20);
        }
    }

    #[test]
    fn keys_of_one_width_are_known_by_it() {
        let types = [DataType::Int64, DataType::Boolean, DataType::Decimal128(38, 2), DataType::Utf8];
        let fields: Vec<Field> = types.iter().map(|data_type| Field::new("k", data_type.clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        for (columns, width) in [(vec![0], Some(9)), (vec![0, 1, 2], Some(28)), (vec![0, 3], None), (vec![], Some(0))] {
            let encoder = KeyEncoder::new(&schema, &columns).unwrap();
            assert_eq!(encoder.width(), width, "{columns:?}");
            let row = types.iter().map(|data_type| arrow::array::new_null_array(data_type, 1)).collect();
            let keys = encoder.encode(&RecordBatch::try_new(schema.clone(), row).unwrap()).unwrap();
            assert!(width.is_none_or(|width| keys.get(0).len() == width), "{columns:?}: {:?}", keys.get(0));
        }
    }

    #[test]
    fn rows_of_a_bundle_are_numbered_in_order_of_their_first() {
        let mut keys = BundleKeys::default();
        for slots in [[5, 3, 5], [3, 9, 3]] {
            keys.clear();
            slots.into_iter().for_each(|slot| keys.push(slot));
            assert_eq!(keys.slots, slots[..2]);
            assert_eq!(keys.first, [0, 1]);
            assert_eq!(keys.index, [0, 1, 0]);
        }
    }
}
