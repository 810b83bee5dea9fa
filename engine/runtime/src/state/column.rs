//! The values of one state, by slot.
//!
//! Before a bundle the values of its keys are gathered into an Arrow array, after it what was written is scattered
//! back. A value that is absent is null. State that the guest reaches by host calls is kept as encoded bytes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, StringArray, StructArray, make_array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Fields};
use arrow::error::ArrowError;

use crate::fixed::{fixed_array, fixed_bytes};

/// Values of one state, by slot.
pub(crate) struct StateColumn {
    data_type: DataType,
    present: Vec<bool>,
    values: Values,
    /// Of values that have memory of their own.
    own_bytes: usize,
}

enum Values {
    Fixed {
        width: usize,
        bytes: Vec<u8>,
    },
    Bool(Vec<bool>),
    Bytes(Vec<Box<[u8]>>),
    Struct {
        fields: Fields,
        columns: Vec<StateColumn>,
    },
    /// Lists and maps: an array of one for each present value.
    Nested(Vec<Option<ArrayRef>>),
}

impl StateColumn {
    pub(crate) fn new(data_type: &DataType) -> StateColumn {
        let values = match data_type {
            DataType::Boolean => Values::Bool(Vec::new()),
            DataType::Utf8 | DataType::Binary => Values::Bytes(Vec::new()),
            DataType::Struct(fields) => Values::Struct {
                fields: fields.clone(),
                columns: fields.iter().map(|field| StateColumn::new(field.data_type())).collect(),
            },
            fixed => match fixed.primitive_width() {
                Some(width) => Values::Fixed { width, bytes: Vec::new() },
                None => Values::Nested(Vec::new()),
            },
        };
        StateColumn { data_type: data_type.clone(), present: Vec::new(), values, own_bytes: 0 }
    }

    /// Makes room for `slots` slots; new ones are absent.
    pub(crate) fn grow(&mut self, slots: usize) {
        if self.present.len() >= slots {
            return;
        }
        self.present.resize(slots, false);
        match &mut self.values {
            Values::Fixed { width, bytes } => bytes.resize(slots * *width, 0),
            Values::Bool(values) => values.resize(slots, false),
            Values::Bytes(values) => values.resize(slots, Box::default()),
            Values::Struct { columns, .. } => columns.iter_mut().for_each(|column| column.grow(slots)),
            Values::Nested(values) => values.resize(slots, None),
        }
    }

    pub(crate) fn is_present(&self, slot: u32) -> bool {
        self.present[slot as usize]
    }

    /// What a slot takes, whatever its value.
    pub(crate) fn slot_bytes(&self) -> usize {
        let value = match &self.values {
            Values::Fixed { width, .. } => *width,
            Values::Bool(_) => 1,
            Values::Bytes(_) | Values::Nested(_) => 16,
            Values::Struct { columns, .. } => columns.iter().map(StateColumn::slot_bytes).sum(),
        };
        1 + value
    }

    /// What values take beside their slots, all together.
    pub(crate) fn own_bytes(&self) -> usize {
        match &self.values {
            Values::Struct { columns, .. } => columns.iter().map(StateColumn::own_bytes).sum(),
            _ => self.own_bytes,
        }
    }

    /// The values at `slots`, in that order.
    pub(crate) fn gather(&self, slots: &[u32]) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls(slots);
        Ok(match &self.values {
            Values::Fixed { width, bytes } => {
                fixed_array(&self.data_type, gather_fixed(bytes, *width, slots), slots.len(), nulls)
            }
            Values::Bool(values) => {
                let bits = BooleanBuffer::from_iter(slots.iter().map(|&slot| values[slot as usize]));
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::Bytes(values) => {
                let each = slots.iter().map(|&slot| self.present[slot as usize].then(|| &*values[slot as usize]));
                let binary = BinaryArray::from_iter(each);
                if self.data_type == DataType::Utf8 {
                    Arc::new(StringArray::try_from_binary(binary)?)
                } else {
                    Arc::new(binary)
                }
            }
            Values::Struct { fields, columns } => {
                let columns = columns.iter().map(|column| column.gather(slots)).collect::<Result<Vec<_>, _>>()?;
                // A field that takes no null has none where the row is there, but has them where the row is not.
                let columns = columns.into_iter().zip(fields.iter());
                let columns =
                    columns.map(|(column, field)| if field.is_nullable() { column } else { without_nulls(&column) });
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns.collect(), nulls, slots.len())?)
            }
            Values::Nested(values) => {
                let absent = new_null_array(&self.data_type, 1);
                let each = slots.iter().map(|&slot| values[slot as usize].as_ref().unwrap_or(&absent).as_ref());
                let each: Vec<&dyn Array> = each.collect();
                if each.is_empty() { new_null_array(&self.data_type, 0) } else { concat(&each)? }
            }
        })
    }

    /// Of the values at `slots`, those that are absent; `None` if none is.
    fn nulls(&self, slots: &[u32]) -> Option<NullBuffer> {
        if slots.iter().all(|&slot| self.present[slot as usize]) {
            return None;
        }
        let present = BooleanBuffer::collect_bool(slots.len(), |index| self.present[slots[index] as usize]);
        Some(NullBuffer::new(present))
    }

    /// Takes over `values[i]` for `slots[i]` where `written` says so. A null clears.
    pub(crate) fn scatter(
        &mut self,
        slots: &[u32],
        values: &ArrayRef,
        written: &BooleanBuffer,
    ) -> Result<(), ArrowError> {
        let valid = |index: usize| values.is_valid(index);
        match &mut self.values {
            Values::Fixed { width, bytes } => scatter_fixed(bytes, *width, slots, fixed_bytes(values), written),
            Values::Bool(all) => {
                let from = values.as_boolean();
                for index in written.set_indices() {
                    all[slots[index] as usize] = from.value(index);
                }
            }
            Values::Bytes(all) => {
                for index in written.set_indices() {
                    let bytes: &[u8] = match (valid(index), &self.data_type) {
                        (false, _) => &[],
                        (true, DataType::Utf8) => values.as_string::<i32>().value(index).as_bytes(),
                        (true, _) => values.as_binary::<i32>().value(index),
                    };
                    let held = &mut all[slots[index] as usize];
                    self.own_bytes = self.own_bytes + bytes.len() - held.len();
                    *held = bytes.into();
                }
            }
            Values::Struct { columns, .. } => {
                for (column, values) in columns.iter_mut().zip(values.as_struct().columns()) {
                    column.scatter(slots, values, written)?;
                }
            }
            Values::Nested(all) => {
                for index in written.set_indices() {
                    // Copied out by `take`: a slice would keep the whole bundle's buffers alive.
                    let row = arrow::array::UInt32Array::from(vec![index as u32]);
                    let value = if valid(index) { Some(take(values, &row, None)?) } else { None };
                    let held = &mut all[slots[index] as usize];
                    self.own_bytes = self.own_bytes + array_bytes(value.as_ref()) - array_bytes(held.as_ref());
                    *held = value;
                }
            }
        }
        match values.nulls() {
            None => each_set(written, |index| self.present[slots[index] as usize] = true),
            Some(nulls) => each_set(written, |index| self.present[slots[index] as usize] = nulls.is_valid(index)),
        }
        Ok(())
    }

    /// Forgets the value of `slot`.
    pub(crate) fn clear(&mut self, slot: u32) {
        self.present[slot as usize] = false;
        match &mut self.values {
            Values::Bytes(values) => self.own_bytes -= std::mem::take(&mut values[slot as usize]).len(),
            Values::Nested(values) => self.own_bytes -= array_bytes(values[slot as usize].take().as_ref()),
            Values::Struct { columns, .. } => columns.iter_mut().for_each(|column| column.clear(slot)),
            Values::Fixed { .. } | Values::Bool(_) => {}
        }
    }
}

fn array_bytes(value: Option<&ArrayRef>) -> usize {
    value.map_or(0, |value| value.get_array_memory_size())
}

fn without_nulls(column: &ArrayRef) -> ArrayRef {
    match column.nulls() {
        None => Arc::clone(column),
        Some(_) => {
            let data = column.to_data().into_builder().nulls(None).build();
            data.map_or_else(|_| Arc::clone(column), make_array)
        }
    }
}

/// Calls `f` with the index of each bit that is set. Most often all are: then there is nothing to look for.
fn each_set(bits: &BooleanBuffer, mut f: impl FnMut(usize)) {
    if bits.count_set_bits() == bits.len() {
        (0..bits.len()).for_each(f);
    } else {
        bits.set_indices().for_each(&mut f);
    }
}

/// Runs `$body` with `$t` as a number of `$width` bytes, so that a value is one load and one store.
macro_rules! with_number {
    ($width:expr, $t:ident => $body:expr) => {
        match $width {
            1 => {
                type $t = u8;
                $body
            }
            2 => {
                type $t = u16;
                $body
            }
            4 => {
                type $t = u32;
                $body
            }
            8 => {
                type $t = u64;
                $body
            }
            _ => {
                type $t = i128;
                $body
            }
        }
    };
}

fn gather_fixed(bytes: &[u8], width: usize, slots: &[u32]) -> Buffer {
    with_number!(width, T => {
        let values = bytes.as_chunks::<{ size_of::<T>() }>().0;
        Buffer::from_vec(slots.iter().map(|&slot| T::from_ne_bytes(values[slot as usize])).collect::<Vec<T>>())
    })
}

fn scatter_fixed(bytes: &mut [u8], width: usize, slots: &[u32], from: &[u8], written: &BooleanBuffer) {
    with_number!(width, T => {
        let to = bytes.as_chunks_mut::<{ size_of::<T>() }>().0;
        let from = from.as_chunks::<{ size_of::<T>() }>().0;
        each_set(written, |index| to[slots[index] as usize] = from[index]);
    });
}

/// The encoded values of one state that the guest reaches by host calls, by slot.
#[derive(Default)]
pub(crate) struct ByteState {
    values: Vec<Option<Box<[u8]>>>,
    own_bytes: usize,
}

impl ByteState {
    pub(crate) fn get(&self, slot: u32) -> Option<&[u8]> {
        self.values.get(slot as usize)?.as_deref()
    }

    /// The values at `slots`, in that order.
    pub(crate) fn at<'a>(&'a self, slots: &'a [u32]) -> impl Iterator<Item = Option<&'a [u8]>> + Clone {
        slots.iter().map(|slot| self.get(*slot))
    }

    pub(crate) fn set(&mut self, slot: u32, value: Option<&[u8]>) {
        if self.values.len() <= slot as usize {
            self.values.resize(slot as usize + 1, None);
        }
        let held = &mut self.values[slot as usize];
        self.own_bytes = self.own_bytes + value.map_or(0, <[u8]>::len) - held.as_ref().map_or(0, |old| old.len());
        match (held, value) {
            (Some(old), Some(new)) if old.len() == new.len() => old.copy_from_slice(new),
            (old, new) => *old = new.map(Into::into),
        }
    }

    /// As [`StateColumn::slot_bytes`].
    pub(crate) fn slot_bytes(&self) -> usize {
        size_of::<Option<Box<[u8]>>>()
    }

    /// As [`StateColumn::own_bytes`].
    pub(crate) fn own_bytes(&self) -> usize {
        self.own_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Int64Array, ListArray};
    use arrow::buffer::Buffer;
    use arrow::datatypes::{Field, Int64Type};

    fn all_written(len: usize) -> BooleanBuffer {
        BooleanBuffer::new(Buffer::from(vec![0xff; len.div_ceil(8)]), 0, len)
    }

    fn keeps(values: ArrayRef) {
        let mut column = StateColumn::new(values.data_type());
        column.grow(8);
        let slots: Vec<u32> = (0..values.len() as u32).map(|index| 6 - index * 2).collect();
        column.scatter(&slots, &values, &all_written(values.len())).unwrap();
        assert_eq!(&column.gather(&slots).unwrap(), &values);
        let untouched = column.gather(&[1, 3]).unwrap();
        assert_eq!(untouched.null_count(), 2);
        let mut only_last = vec![false; values.len()];
        *only_last.last_mut().unwrap() = true;
        let nulls = new_null_array(values.data_type(), values.len());
        column.scatter(&slots, &nulls, &BooleanBuffer::from(only_last)).unwrap();
        let after = column.gather(&slots).unwrap();
        assert_eq!(after.slice(0, values.len() - 1).to_data(), values.slice(0, values.len() - 1).to_data());
        assert!(after.is_null(values.len() - 1));
        slots.iter().for_each(|slot| column.clear(*slot));
        assert_eq!(column.own_bytes(), 0);
        assert!(!column.is_present(6));
        assert!(column.gather(&[6]).unwrap().is_null(0));
    }

    #[test]
    fn every_kind_of_value_comes_back() {
        keeps(Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)])));
        keeps(Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])));
        keeps(Arc::new(StringArray::from(vec![Some("a"), None, Some("")])));
        keeps(Arc::new(BinaryArray::from(vec![Some(&b"\xff"[..]), None, Some(b"")])));
        keeps(Arc::new(
            Decimal128Array::from(vec![Some(i128::MAX / 4), None, Some(-1)]).with_precision_and_scale(38, 2).unwrap(),
        ));
        keeps(Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ])));
    }

    #[test]
    fn a_struct_that_is_absent_is_null_as_a_whole() {
        let fields: Fields =
            vec![Field::new("n", DataType::Int64, false), Field::new("s", DataType::Utf8, true)].into();
        let n: ArrayRef = Arc::new(Int64Array::from(vec![7, 0, 9]));
        let s: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, None]));
        let nulls = NullBuffer::from(vec![true, false, true]);
        keeps(Arc::new(StructArray::new(fields, vec![n, s], Some(nulls))));
    }
}
