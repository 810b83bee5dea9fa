//! One column of any type in a frame, and one value of any type as a state has it.

use arrow::array::{Array, ArrayRef};
use wasmill_host::data_type::FieldType;
use wasmill_host::fuzz::Column;

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
    let plain = Frame::new(&bytes, MAGIC_EFFECTS, column.slots()).and_then(|mut frame| frame.column(&field, rows));
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

/// Arrow finds nothing wrong in the array, it is of its type, and it has these values.
pub fn check_array(array: &ArrayRef, field: &FieldType, expected: &[Value]) {
    array.to_data().validate_full().unwrap_or_else(|error| panic!("{field}: {error}"));
    assert_eq!(array.data_type(), &field.data_type);
    assert!(field.nullable || array.null_count() == 0, "{field}: {} nulls", array.null_count());
    assert_eq!(plain::values(array), expected, "{field}");
}

/// What was read is written as a frame that is read as the same, and both are written alike.
fn check_writing(array: &ArrayRef, column: &Column, field: &FieldType) {
    let written = column.write(array).unwrap_or_else(|problem| panic!("{field}: {problem}"));
    let mut plain = Frame::new(&written, MAGIC_EFFECTS, column.slots()).expect("the host writes good frames");
    let values = plain.column(field, array.len()).expect("the host writes good columns");
    assert_eq!(values, plain::values(array), "{field}");
    let again = column.read(written.clone(), array.len()).unwrap_or_else(|lie| panic!("{field}: {lie}"));
    assert_eq!(&again, array, "{field}");
    assert_eq!(column.write(&again).as_deref(), Ok(written.as_slice()), "{field}");
}

fn check_value(field: &FieldType, column: &Column, bytes: &[u8]) {
    let mut rest = bytes;
    let plain = plain::value(&field.data_type, &mut rest).is_some() && rest.is_empty();
    let host = column.check_value(bytes);
    assert_eq!(host.is_ok(), plain, "{field}: {bytes:?}: {host:?}");
}
