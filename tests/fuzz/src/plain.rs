//! Reads frames the slow and obvious way, from what `wit/README.md` says alone. What it takes and what the host takes must be the same.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use wasmill_host::data_type::FieldType;

/// A value. Those of fixed width are their bytes, so that a NaN is itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Struct(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

/// A frame whose directory is right, and which of its slots is next. `None` everywhere: the frame breaks the contract.
pub struct Frame<'a> {
    bytes: &'a [u8],
    slots: std::vec::IntoIter<&'a [u8]>,
    /// Rows that take no bytes cost nothing to claim: the host wants no more of them than the frame has bytes, or the bundle rows.
    bare_rows_max: usize,
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl<'a> Frame<'a> {
    pub fn new(bytes: &'a [u8], magic: u32, count: usize) -> Option<Self> {
        let header = u32_at(bytes, 0)? == magic && u32_at(bytes, 4)? as usize == count;
        let mut end = 64 + 8 * count;
        if !header || !bytes.len().is_multiple_of(64) || bytes.len() < end {
            return None;
        }
        let mut slots = Vec::new();
        for slot in 0..count {
            let (start, length) = (u32_at(bytes, 64 + 8 * slot)? as usize, u32_at(bytes, 68 + 8 * slot)? as usize);
            if length == 0 {
                slots.push((start == 0).then_some(&bytes[..0])?);
                continue;
            }
            let gap = bytes.get(end..start)?;
            if !start.is_multiple_of(64) || gap.iter().any(|byte| *byte != 0) {
                return None;
            }
            end = start + length;
            slots.push(bytes.get(start..end)?);
        }
        let padding = bytes.len() == end.next_multiple_of(64) && bytes[end..].iter().all(|byte| *byte == 0);
        padding.then_some(Self { bytes, slots: slots.into_iter(), bare_rows_max: bytes.len() })
    }

    /// The frame may be about so many rows.
    pub fn expect_rows(&mut self, rows: usize) {
        self.bare_rows_max = self.bare_rows_max.max(rows);
    }

    pub fn slot(&mut self) -> Option<&'a [u8]> {
        self.slots.next()
    }

    pub fn all_absent(&self, slots: usize) -> bool {
        self.slots.as_slice()[..slots].iter().all(|slot| slot.is_empty())
    }

    /// What `read` gives; nothing has been read if that is nothing.
    pub fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = self.slots.clone();
        let got = read(self);
        if got.is_none() {
            self.slots = before;
        }
        got
    }

    /// The next slots, which must be absent.
    pub fn absent(&mut self, slots: usize) -> Option<()> {
        (0..slots).all(|_| self.slots.next().is_some_and(<[u8]>::is_empty)).then_some(())
    }

    /// Absent, or a bit for each row.
    pub fn bits(&mut self, rows: usize) -> Option<Option<Vec<bool>>> {
        let bytes = self.slot()?;
        if bytes.is_empty() {
            return Some(None);
        }
        (bytes.len() == rows.div_ceil(8))
            .then(|| Some((0..rows).map(|row| bytes[row / 8] >> (row % 8) & 1 == 1).collect()))
    }

    /// Offsets from 0, never descending; and where the last one leads.
    pub fn offsets(&mut self, rows: usize) -> Option<Vec<usize>> {
        let bytes = self.slot()?;
        if rows == 0 {
            return bytes.is_empty().then(|| vec![0]);
        }
        if bytes.len() != 4 * (rows + 1) {
            return None;
        }
        let offset = |bytes: &[u8]| usize::try_from(i32::from_le_bytes(bytes.try_into().ok()?)).ok();
        let offsets: Vec<usize> = bytes.chunks(4).map(offset).collect::<Option<_>>()?;
        (offsets[0] == 0 && offsets.is_sorted()).then_some(offsets)
    }

    pub fn column(&mut self, field: &FieldType, rows: usize) -> Option<Vec<Value>> {
        let valid =
            self.bits(rows)?.unwrap_or_else(|| vec![true; rows.min(8 * self.bytes.len().max(self.bare_rows_max))]);
        if !field.nullable && valid.contains(&false) {
            return None;
        }
        let values = self.values(&field.data_type, rows, &valid)?;
        Some(values.into_iter().zip(valid).map(|(value, valid)| if valid { value } else { Value::Null }).collect())
    }

    fn child(&mut self, field: &arrow::datatypes::Field, rows: usize) -> Option<Vec<Value>> {
        self.column(&FieldType { data_type: field.data_type().clone(), nullable: field.is_nullable() }, rows)
    }

    fn values(&mut self, data_type: &DataType, rows: usize, valid: &[bool]) -> Option<Vec<Value>> {
        match data_type {
            DataType::Boolean => match self.bits(rows)? {
                None => (rows == 0).then(Vec::new),
                Some(bits) => Some(bits.into_iter().map(Value::Bool).collect()),
            },
            DataType::Utf8 | DataType::Binary => {
                let (offsets, data) = (self.offsets(rows)?, self.slot()?);
                let whole = data.len() == offsets[rows];
                // Also under a null, where the value means nothing: Arrow's text is UTF-8 wherever it lies.
                let text = |bytes: &&[u8]| data_type == &DataType::Binary || std::str::from_utf8(bytes).is_ok();
                let values: Vec<&[u8]> =
                    offsets.windows(2).map(|pair| data.get(pair[0]..pair[1])).collect::<Option<_>>()?;
                (whole && values.iter().all(text))
                    .then(|| values.iter().map(|bytes| Value::Bytes(bytes.to_vec())).collect())
            }
            DataType::List(item) => {
                let offsets = self.offsets(rows)?;
                let mut items = self.child(item, offsets[rows])?.into_iter();
                Some(pieces(&offsets, &mut items).map(Value::List).collect())
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return None };
                let offsets = self.offsets(rows)?;
                let (keys, values) = (self.child(&fields[0], offsets[rows])?, self.child(&fields[1], offsets[rows])?);
                let mut pairs = keys.into_iter().zip(values);
                Some(pieces(&offsets, &mut pairs).map(Value::Map).collect())
            }
            DataType::Struct(fields) => {
                if fields.is_empty() && rows > self.bare_rows_max {
                    return None;
                }
                let columns: Vec<Vec<Value>> =
                    fields.iter().map(|field| self.child(field, rows)).collect::<Option<_>>()?;
                Some(rows_of(columns.into_iter(), rows))
            }
            fixed => {
                let (width, bytes) = (fixed.primitive_width()?, self.slot()?);
                if bytes.len() != rows * width {
                    return None;
                }
                let fits = |(row, value): (usize, &[u8])| !valid[row] || digits_fit(fixed, value);
                let values = bytes.chunks(width);
                values.clone().enumerate().all(fits).then(|| values.map(|value| Value::Fixed(value.to_vec())).collect())
            }
        }
    }
}

/// Whether a decimal has at most the digits of its type; what is no decimal fits.
fn digits_fit(data_type: &DataType, value: &[u8]) -> bool {
    let (DataType::Decimal128(precision, _), Ok(bytes)) = (data_type, value.try_into()) else { return true };
    i128::from_le_bytes(bytes).unsigned_abs() < 10u128.pow((*precision).into())
}

/// Reads one value in the encoding of state from the front of `bytes`.
pub fn value(data_type: &DataType, bytes: &mut &[u8]) -> Option<()> {
    match data_type {
        DataType::Boolean => (bytes.split_off_first()? <= &1).then_some(()),
        DataType::Utf8 | DataType::Binary => {
            let length = count(bytes)?;
            let text = bytes.split_off(..length)?;
            (data_type == &DataType::Binary || std::str::from_utf8(text).is_ok()).then_some(())
        }
        DataType::List(item) => many(count(bytes)?, &[item], bytes),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => many(count(bytes)?, &[&fields[0], &fields[1]], bytes),
            _ => None,
        },
        DataType::Struct(fields) => fields.iter().try_for_each(|field| nullable(field, bytes)),
        fixed => digits_fit(fixed, bytes.split_off(..fixed.primitive_width()?)?).then_some(()),
    }
}

fn count(bytes: &mut &[u8]) -> Option<usize> {
    Some(u32_at(bytes.split_off(..4)?, 0)? as usize)
}

fn many(count: usize, fields: &[&arrow::datatypes::Field], bytes: &mut &[u8]) -> Option<()> {
    for _ in 0..count {
        let before = bytes.len();
        fields.iter().try_for_each(|field| nullable(field, bytes))?;
        if bytes.len() == before {
            // All of them take no bytes.
            return Some(());
        }
    }
    Some(())
}

fn nullable(field: &arrow::datatypes::Field, bytes: &mut &[u8]) -> Option<()> {
    if !field.is_nullable() {
        return value(field.data_type(), bytes);
    }
    match bytes.split_off_first()? {
        0 => Some(()),
        1 => value(field.data_type(), bytes),
        _ => None,
    }
}

/// The values of an Arrow array.
pub fn values(array: &dyn Array) -> Vec<Value> {
    let all = match array.data_type() {
        DataType::Boolean => array.as_boolean().values().iter().map(Value::Bool).collect(),
        DataType::Utf8 | DataType::Binary => texts(array),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let mut items = values(list.values()).into_iter();
            pieces(&positions(list.offsets()), &mut items).map(Value::List).collect()
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let mut pairs = values(map.keys()).into_iter().zip(values(map.values()));
            pieces(&positions(map.offsets()), &mut pairs).map(Value::Map).collect()
        }
        DataType::Struct(_) => rows_of(array.as_struct().columns().iter().map(|column| values(column)), array.len()),
        fixed => {
            let (data, width) = (array.to_data(), fixed.primitive_width().expect("the other types have a fixed width"));
            let bytes = &data.buffers()[0].as_slice()[data.offset() * width..][..data.len() * width];
            bytes.chunks(width).map(|value| Value::Fixed(value.to_vec())).collect()
        }
    };
    let value = |(row, value)| if array.is_null(row) { Value::Null } else { value };
    all.into_iter().enumerate().map(value).collect()
}

fn texts(array: &dyn Array) -> Vec<Value> {
    let value = |row: usize| match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes().to_vec(),
        _ => array.as_binary::<i32>().value(row).to_vec(),
    };
    (0..array.len()).map(|row| Value::Bytes(value(row))).collect()
}

fn positions(offsets: &[i32]) -> Vec<usize> {
    offsets.iter().map(|offset| usize::try_from(*offset).expect("no offset is negative")).collect()
}

/// The pieces of a child between offsets, which may begin behind its start.
fn pieces<T>(offsets: &[usize], child: &mut impl Iterator<Item = T>) -> impl Iterator<Item = Vec<T>> {
    child.by_ref().take(offsets[0]).for_each(drop);
    offsets.windows(2).map(move |pair| child.by_ref().take(pair[1] - pair[0]).collect())
}

/// Columns as rows, without a copy of what may be deep.
fn rows_of(columns: impl Iterator<Item = Vec<Value>>, rows: usize) -> Vec<Value> {
    let mut columns: Vec<_> = columns.map(Vec::into_iter).collect();
    (0..rows).map(|_| Value::Struct(columns.iter_mut().filter_map(Iterator::next).collect())).collect()
}
