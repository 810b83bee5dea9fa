//! Dates and times that no text can show: Arrow has room for more of them than the calendar.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{
    DataType, Date32Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::temporal_conversions::{as_date, as_datetime, as_time};

/// A value that has no text, with its column, told before anything of `rows` is written.
#[derive(Debug, thiserror::Error)]
#[error(
    "column {column:?} holds {value} as {data_type}, which is beyond what a date or time can be written as: write parquet, or keep the function that makes it within years -262142 to 262141 and times within a day"
)]
pub(crate) struct BeyondCalendar {
    column: String,
    value: i64,
    data_type: DataType,
}

/// Only the ends of each column are looked at, which takes one pass that the compiler makes a vector loop of.
pub(crate) fn check(rows: &RecordBatch) -> Result<(), BeyondCalendar> {
    let schema = rows.schema();
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        if let Some((value, data_type)) = beyond(column) {
            return Err(BeyondCalendar { column: field.name().clone(), value, data_type });
        }
    }
    Ok(())
}

fn beyond(array: &ArrayRef) -> Option<(i64, DataType)> {
    let value = match array.data_type() {
        DataType::Date32 => end::<Date32Type>(array, |value| as_date::<Date32Type>(value).is_some()),
        DataType::Time64(TimeUnit::Microsecond) => end::<Time64MicrosecondType>(array, |value| {
            // Arrow's own reading wraps around at midnight.
            (0..86_400_000_000).contains(&value) && as_time::<Time64MicrosecondType>(value).is_some()
        }),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => end::<TimestampSecondType>(array, |v| as_datetime::<TimestampSecondType>(v).is_some()),
            TimeUnit::Millisecond => {
                end::<TimestampMillisecondType>(array, |v| as_datetime::<TimestampMillisecondType>(v).is_some())
            }
            TimeUnit::Microsecond => {
                end::<TimestampMicrosecondType>(array, |v| as_datetime::<TimestampMicrosecondType>(v).is_some())
            }
            TimeUnit::Nanosecond => {
                end::<TimestampNanosecondType>(array, |v| as_datetime::<TimestampNanosecondType>(v).is_some())
            }
        },
        // What lies under a null is no value.
        DataType::Struct(_) => return array.as_struct().flatten().1.iter().find_map(beyond),
        DataType::List(item) if has_time(item.data_type()) => {
            return array.as_list::<i32>().iter().flatten().find_map(|items| beyond(&items));
        }
        DataType::Map(entries, _) if has_time(entries.data_type()) => {
            return array.as_map().iter().flatten().find_map(|entries| beyond(&(Arc::new(entries) as ArrayRef)));
        }
        _ => None,
    };
    value.map(|value| (value, array.data_type().clone()))
}

fn has_time(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| has_time(field.data_type())),
        DataType::List(item) | DataType::Map(item, _) => has_time(item.data_type()),
        other => other.is_temporal(),
    }
}

/// The smallest or largest value, if it has no text.
fn end<T: ArrowPrimitiveType>(array: &ArrayRef, has_text: impl Fn(i64) -> bool) -> Option<i64>
where
    T::Native: Into<i64>,
{
    let array = array.as_primitive::<T>();
    [min(array), max(array)].into_iter().flatten().map(Into::into).find(|value| !has_text(*value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Int32Array, ListArray, Time64MicrosecondArray, TimestampSecondArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Schema};

    fn error(column: ArrayRef) -> Option<String> {
        let schema = Schema::new(vec![Field::new("d", column.data_type().clone(), true)]);
        let rows = RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap();
        check(&rows).err().map(|error| error.to_string())
    }

    #[test]
    fn what_has_no_text_is_named() {
        let message = error(Arc::new(Date32Array::from(vec![Some(0), None, Some(i32::MAX)]))).unwrap();
        assert!(message.starts_with("column \"d\" holds 2147483647 as Date32, which is beyond"), "{message}");
        assert!(error(Arc::new(Time64MicrosecondArray::from(vec![86_400_000_000]))).is_some());
        assert!(error(Arc::new(Time64MicrosecondArray::from(vec![-1]))).is_some());
        assert!(error(Arc::new(TimestampSecondArray::from(vec![i64::MIN]))).is_some());
        let item = Arc::new(Field::new("item", DataType::Date32, true));
        let dates: ArrayRef = Arc::new(Date32Array::from(vec![1, i32::MIN]));
        assert!(error(Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2]), dates, None))).is_some());
    }

    #[test]
    fn the_rest_passes() {
        assert_eq!(error(Arc::new(Date32Array::from(vec![-700_000, 700_000]))), None);
        assert_eq!(error(Arc::new(Time64MicrosecondArray::from(vec![0, 86_399_999_999]))), None);
        assert_eq!(error(Arc::new(Int32Array::from(vec![i32::MAX]))), None);
        assert_eq!(error(Arc::new(Date32Array::from(Vec::<i32>::new()))), None);
    }
}
