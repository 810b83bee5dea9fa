//! Makes types, counts and frames out of any bytes, so that whatever a fuzzer changes still means something.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use wasmill_host::data_type::{FieldType, NEST_MAX};

pub const MAGIC_EFFECTS: u32 = 0x3145_4D57;
const ALIGNMENT: usize = 64;
const ZONES: [Option<&str>; 4] = [None, Some("UTC"), Some("America/New_York"), Some("+02:00")];
const UNITS: [TimeUnit; 4] = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
const NAMES: [&str; 4] = ["a", "b", "a \"quoted\" name", "ü"];

/// The bytes that are left. Behind their end lie zeros.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// At most this many bytes.
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, left) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = left;
        taken
    }

    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    /// A number of rows: few, since all are looked at, and they need not take any bytes.
    pub fn count(&mut self) -> usize {
        usize::from(self.u16()) % 512
    }

    /// Any type of the contract.
    pub fn field_type(&mut self) -> FieldType {
        self.nested(1)
    }

    /// Five bits say which type, the highest whether it may be null.
    fn nested(&mut self, depth: usize) -> FieldType {
        let byte = self.byte();
        let data_type = match byte & 0x1f {
            11 => {
                let precision = 1 + self.byte() % 38;
                DataType::Decimal128(precision, (self.byte() % (precision + 1)) as i8)
            }
            16 => {
                let byte = usize::from(self.byte());
                DataType::Timestamp(UNITS[byte % 4], ZONES[byte / 4 % 4].map(Arc::from))
            }
            17 if depth < NEST_MAX => DataType::List(Arc::new(self.nested(depth + 1).to_field("item"))),
            18 if depth < NEST_MAX => {
                let fields = usize::from(self.byte()) % (NAMES.len() + 1);
                let field = |name: &&str| self.nested(depth + 1).to_field(*name);
                DataType::Struct(NAMES[..fields].iter().map(field).collect())
            }
            19 if depth < NEST_MAX => {
                let key = self.nested(depth + 1).data_type;
                let fields = [Field::new("key", key, false), self.nested(depth + 1).to_field("value")];
                let entries = Field::new("entries", DataType::Struct(Fields::from_iter(fields)), false);
                DataType::Map(Arc::new(entries), false)
            }
            other => simple(other),
        };
        FieldType { data_type, nullable: byte & 0x80 != 0 }
    }

    /// A frame of effects. Either as it stands, so that header and directory can be anything, or put together from a header and slots,
    /// so that they are right and what is in the slots can be anything.
    pub fn frame(&mut self, slots: usize) -> Vec<u8> {
        if self.byte() & 1 == 0 {
            let length = usize::from(self.u16());
            let mut frame = self.take(length).to_vec();
            frame.resize(frame.len().next_multiple_of(ALIGNMENT), 0);
            return frame;
        }
        let (status, rows) = (self.byte() & 3, self.count());
        let slots: Vec<&[u8]> = (0..slots).map(|_| self.slot()).collect();
        frame(status.into(), rows, &slots)
    }

    /// A length of one byte, or of two if the first is above 127; then the bytes.
    fn slot(&mut self) -> &'a [u8] {
        let low = usize::from(self.byte());
        let length = if low < 128 { low } else { (low & 0x7f) << 8 | usize::from(self.byte()) };
        self.take(length)
    }
}

fn simple(number: u8) -> DataType {
    match number % 17 {
        0 => DataType::Boolean,
        1 => DataType::Int8,
        2 => DataType::Int16,
        3 => DataType::Int32,
        4 => DataType::Int64,
        5 => DataType::UInt8,
        6 => DataType::UInt16,
        7 => DataType::UInt32,
        8 => DataType::UInt64,
        9 => DataType::Float32,
        10 => DataType::Float64,
        12 => DataType::Utf8,
        13 => DataType::Binary,
        14 => DataType::Date32,
        15 => DataType::Time64(TimeUnit::Microsecond),
        _ => DataType::Decimal128(5, 2),
    }
}

/// A frame of effects whose directory is right.
pub fn frame(status: u32, rows: usize, slots: &[&[u8]]) -> Vec<u8> {
    let mut frame = vec![0; (64 + 8 * slots.len()).next_multiple_of(ALIGNMENT)];
    for (at, value) in [MAGIC_EFFECTS, slots.len() as u32, status, rows as u32].into_iter().enumerate() {
        frame[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
    }
    for (index, slot) in slots.iter().enumerate().filter(|(_, slot)| !slot.is_empty()) {
        let (start, length) = (frame.len() as u32, slot.len() as u32);
        frame[64 + 8 * index..68 + 8 * index].copy_from_slice(&start.to_le_bytes());
        frame[68 + 8 * index..72 + 8 * index].copy_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(slot);
        frame.resize(frame.len().next_multiple_of(ALIGNMENT), 0);
    }
    frame
}
