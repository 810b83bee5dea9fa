//! Arrays of types of fixed width as the bytes of their values, without the cost of `ArrayData`: it shows where arrays have one row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, downcast_primitive};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

/// An array of `rows` values. Panics if the type has no primitive width, or the buffer not so many values.
pub(crate) fn fixed_array(data_type: &DataType, values: Buffer, rows: usize, nulls: Option<NullBuffer>) -> ArrayRef {
    macro_rules! of_type {
        ($t:ty) => {{
            let values = ScalarBuffer::new(values, 0, rows);
            Arc::new(PrimitiveArray::<$t>::new(values, nulls).with_data_type(data_type.clone()))
        }};
    }
    downcast_primitive! {
        data_type => (of_type),
        other => unreachable!("{other} has no fixed width: the caller has asked for it")
    }
}

/// The values of an array. Panics if its type has no primitive width.
pub(crate) fn fixed_bytes(array: &ArrayRef) -> &[u8] {
    macro_rules! of_type {
        ($t:ty) => {
            array.as_primitive::<$t>().values().inner().as_slice()
        };
    }
    downcast_primitive! {
        array.data_type() => (of_type),
        other => unreachable!("{other} has no fixed width: the caller has asked for it")
    }
}
