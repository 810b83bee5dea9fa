//! Arrays of any type, the same for the same seed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray, MapArray,
    StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};

pub struct Sampler(pub u64);

impl Sampler {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn nulls(&mut self, nullable: bool, rows: usize) -> Option<NullBuffer> {
        nullable.then(|| (0..rows).map(|_| !self.next().is_multiple_of(4)).collect())
    }

    /// An array of this type.
    pub fn array(&mut self, field: &Field, rows: usize) -> ArrayRef {
        let nulls = self.nulls(field.is_nullable(), rows);
        let mut ints =
            |limit: u64| Int64Array::new((0..rows).map(|_| (self.next() % limit) as i64).collect(), nulls.clone());
        match field.data_type() {
            DataType::Boolean => {
                Arc::new(BooleanArray::new((0..rows).map(|_| self.next().is_multiple_of(2)).collect(), nulls))
            }
            DataType::Float32 => {
                Arc::new(Float32Array::new((0..rows).map(|_| self.next() as f32 / 7.0).collect(), nulls))
            }
            DataType::Float64 => {
                Arc::new(Float64Array::new((0..rows).map(|_| self.next() as f64 / 7.0).collect(), nulls))
            }
            DataType::Decimal128(_, _) => {
                let values = (0..rows).map(|_| i128::from(self.next()) - (1 << 30)).collect();
                Arc::new(Decimal128Array::new(values, nulls).with_data_type(field.data_type().clone()))
            }
            DataType::Utf8 => {
                let texts: Vec<_> = (0..rows)
                    .map(|_| "grün €".chars().cycle().take((self.next() % 9) as usize).collect::<String>())
                    .collect();
                let texts = texts.iter().enumerate().map(|(row, text)| is_valid(&nulls, row).then_some(text));
                Arc::new(StringArray::from_iter(texts))
            }
            DataType::Binary => {
                let bytes: Vec<_> = (0..rows).map(|_| vec![self.next() as u8; (self.next() % 9) as usize]).collect();
                let bytes = bytes.iter().enumerate().map(|(row, bytes)| is_valid(&nulls, row).then_some(bytes));
                Arc::new(BinaryArray::from_iter(bytes))
            }
            DataType::List(item) => {
                let (offsets, total) = self.offsets(rows);
                Arc::new(ListArray::new(item.clone(), offsets, self.array(item, total), nulls))
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|field| self.array(field, rows)).collect();
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, rows).unwrap())
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { panic!() };
                // Keys are one letter each, ascending in a map, so that a sorted map gives them back in order.
                let offsets = OffsetBuffer::from_lengths((0..rows).map(|row| row % 4));
                let keys: Vec<_> = (0..rows).flat_map(|row| ["a", "b", "c"].into_iter().take(row % 4)).collect();
                let total = keys.len();
                let columns = vec![Arc::new(StringArray::from(keys)) as ArrayRef, self.array(&fields[1], total)];
                Arc::new(MapArray::new(
                    entries.clone(),
                    offsets,
                    StructArray::new(fields.clone(), columns, None),
                    nulls,
                    false,
                ))
            }
            DataType::Date32 => cast(&cast(&ints(20_000), &DataType::Int32).unwrap(), field.data_type()).unwrap(),
            other => {
                let limit = if other.primitive_width().unwrap() == 1 { 100 } else { 30_000 };
                cast(&ints(limit), other).unwrap()
            }
        }
    }

    fn offsets(&mut self, rows: usize) -> (OffsetBuffer<i32>, usize) {
        let offsets = OffsetBuffer::from_lengths((0..rows).map(|_| (self.next() % 4) as usize));
        let total = offsets[rows] as usize;
        (offsets, total)
    }
}

fn is_valid(nulls: &Option<NullBuffer>, row: usize) -> bool {
    nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
}
