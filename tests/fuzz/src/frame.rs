//! One column of any type in a frame, and one value of any type as a state has it.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use wasmill_host::data_type::FieldType;
use wasmill_host::fuzz::Column;
use wasmill_host::value_column::{self, ValueError};

use super::input::{Input, MAGIC_EFFECTS};
use super::plain::{self, Frame, Value};

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (form, field) = (input.byte(), input.field_type());
    let column = Column::new(&field).unwrap_or_else(|| panic!("{field} is of the contract"));
    if form & 1 == 1 {
        return check_value(&field, &column, input.rest());
    }
    let rows = input.count();
    let bytes = input.frame(column.slots());
    let plain = plain_column(&bytes, &column, &field, rows);
    match (column.read(bytes.clone(), rows), plain) {
        (Err(_), None) => {}
        (Err(lie), Some(_)) => panic!("the host refuses a good frame of {rows} rows of {field}: {lie}"),
        (Ok(_), None) => panic!("the host takes a bad frame of {rows} rows of {field}"),
        (Ok(array), Some(values)) => {
            check_array(&array, &field, &values);
            check_writing(&array, &column, &field);
        }
    }
}

fn plain_column(bytes: &[u8], column: &Column, field: &FieldType, rows: usize) -> Option<Vec<Value>> {
    let mut frame = Frame::new(bytes, MAGIC_EFFECTS, column.slots())?;
    frame.expect_rows(rows);
    frame.column(field, rows)
}

/// Arrow finds nothing wrong in the array, it is of its type, and it has these values.
pub fn check_array(array: &ArrayRef, field: &FieldType, expected: &[Value]) {
    array.to_data().validate_full().unwrap_or_else(|error| panic!("{field}: {error}"));
    assert_eq!(array.data_type(), &field.data_type);
    assert!(field.nullable || array.null_count() == 0, "{field}: {} nulls", array.null_count());
    assert_eq!(plain::values(array), expected, "{field}");
}

/// What was read is written as a frame that is read as the same, and both are written alike; so are some rows of it.
fn check_writing(whole: &ArrayRef, column: &Column, field: &FieldType) {
    for rows in [0..whole.len(), whole.len() / 3..whole.len() - whole.len() / 4, whole.len()..whole.len()] {
        check_rows(whole, rows, column, field);
    }
    assert!(column.write(whole, 0..whole.len() + 1).is_err(), "{field}");
}

fn check_rows(whole: &ArrayRef, rows: Range<usize>, column: &Column, field: &FieldType) {
    let written = column.write(whole, rows.clone()).unwrap_or_else(|problem| panic!("{field}: {problem}"));
    let array = &whole.slice(rows.start, rows.len());
    assert_eq!(column.write(array, 0..array.len()).as_deref(), Ok(written.as_slice()), "{field}");
    assert_eq!(plain_column(&written, column, field, array.len()), Some(plain::values(array)), "{field}");
    let again = column.read(written.clone(), array.len()).unwrap_or_else(|lie| panic!("{field}: {lie}"));
    assert_eq!(&again, array, "{field}");
    assert_eq!(column.write(&again, 0..again.len()).as_deref(), Ok(written.as_slice()), "{field}");
}

fn check_value(field: &FieldType, column: &Column, bytes: &[u8]) {
    let mut rest = bytes;
    let plain = plain::value(&field.data_type, &mut rest).is_some() && rest.is_empty();
    let host = column.check_value(bytes);
    assert_eq!(host.is_ok(), plain, "{field}: {bytes:?}: {host:?}");
    match value_column::decode(column.data_type(), [Some(bytes)]) {
        Ok(array) => {
            assert!(plain, "{field}: {bytes:?} becomes a column");
            array.to_data().validate_full().unwrap_or_else(|error| panic!("{field}: {error}"));
            let again = value_column::encode(&array).unwrap_or_else(|error| panic!("{field}: {error}"));
            assert_eq!(again.value(0), bytes, "{field}");
        }
        // What takes few bytes may be more than a column holds.
        Err(ValueError::TooLarge { .. }) => {}
        Err(error) => assert!(!plain, "{field}: {bytes:?}: {error}"),
    }
}
