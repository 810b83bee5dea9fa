//! What flows between operators: rows, and what belongs to each row but is not a column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::checkpoint::snapshot::Barrier;

/// Event time of a row that has none.
pub const NO_TIME: i64 = i64::MIN;

/// Watermark before the first, and that which says that nothing follows.
pub const WATERMARK_MIN: i64 = i64::MIN;
pub const WATERMARK_MAX: i64 = i64::MAX;

/// Where rows come from: the upper 16 bits number the split of the job, the lower 48 the row in it, from 0.
/// Kept so that a dead letter can say which input row it was; costs nothing while rows stay in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// The rows come from no source: results of windows.
    None,
    /// Row i is at `start + i`.
    From(u64),
    Each(ScalarBuffer<u64>),
}

const ROW_BITS: u32 = 48;

/// The position of `row` in split number `split`.
pub fn position(split: u16, row: u64) -> u64 {
    (u64::from(split) << ROW_BITS) | (row & ((1 << ROW_BITS) - 1))
}

/// The split number and row that `position` made one.
pub fn split_and_row(position: u64) -> (u16, u64) {
    ((position >> ROW_BITS) as u16, position & ((1 << ROW_BITS) - 1))
}

impl Positions {
    /// The position of row `index`.
    pub fn get(&self, index: usize) -> Option<u64> {
        match self {
            Positions::None => None,
            Positions::From(start) => Some(start + index as u64),
            Positions::Each(all) => all.get(index).copied(),
        }
    }

    /// One position a row; a range where they follow each other.
    pub fn of(each: Vec<u64>) -> Positions {
        match each.first() {
            Some(first) if each.iter().zip(*first..).all(|(at, next)| *at == next) => Positions::From(*first),
            _ => Positions::Each(each.into()),
        }
    }

    fn slice(&self, offset: usize, length: usize) -> Positions {
        match self {
            Positions::None => Positions::None,
            Positions::From(start) => Positions::From(start + offset as u64),
            Positions::Each(all) => Positions::Each(all.slice(offset, length)),
        }
    }

    fn take(&self, rows: &[u32]) -> Positions {
        match self {
            Positions::None => Positions::None,
            Positions::From(start) => Positions::Each(rows.iter().map(|&row| start + u64::from(row)).collect()),
            Positions::Each(all) => Positions::Each(rows.iter().map(|&row| all[row as usize]).collect()),
        }
    }

    fn concat<'a>(parts: impl Iterator<Item = (&'a Positions, usize)> + Clone) -> Positions {
        if parts.clone().any(|(part, _)| matches!(part, Positions::None)) {
            return Positions::None;
        }
        let mut next = None;
        let in_order = parts.clone().all(|(part, rows)| match part {
            Positions::From(start) if next.is_none_or(|next| next == *start) => {
                next = Some(start + rows as u64);
                true
            }
            _ => false,
        });
        let mut parts = parts.peekable();
        match (in_order, parts.peek()) {
            (true, Some((first, _))) => (*first).clone(),
            _ => Positions::Each(parts.flat_map(|(part, rows)| (0..rows).filter_map(|row| part.get(row))).collect()),
        }
    }
}

/// A record batch with event times, row kinds and positions beside it.
#[derive(Debug, Clone)]
pub struct Batch {
    rows: RecordBatch,
    /// Milliseconds since 1970, one a row; `None` = no row has one, [`NO_TIME`] = this row has none.
    event_times: Option<ScalarBuffer<i64>>,
    /// 0 +I, 1 −U, 2 +U, 3 −D; `None` = all +I.
    row_kinds: Option<ScalarBuffer<u8>>,
    positions: Positions,
}

impl Batch {
    pub fn new(rows: RecordBatch) -> Batch {
        Batch { rows, event_times: None, row_kinds: None, positions: Positions::None }
    }

    /// No columns, no rows.
    pub fn empty() -> Batch {
        Batch::new(RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())))
    }

    /// Panics if there is not one time for each row: times are computed from the rows, never read from outside.
    #[must_use]
    pub fn with_event_times(mut self, times: Option<ScalarBuffer<i64>>) -> Batch {
        assert!(times.as_ref().is_none_or(|times| times.len() == self.rows.num_rows()), "an event time for each row");
        self.event_times = times;
        self
    }

    #[must_use]
    pub fn with_row_kinds(mut self, kinds: Option<ScalarBuffer<u8>>) -> Batch {
        assert!(kinds.as_ref().is_none_or(|kinds| kinds.len() == self.rows.num_rows()), "a kind for each row");
        self.row_kinds = kinds;
        self
    }

    #[must_use]
    pub fn with_positions(mut self, positions: Positions) -> Batch {
        self.positions = positions;
        self
    }

    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    pub fn column(&self, index: usize) -> &ArrayRef {
        self.rows.column(index)
    }

    pub fn event_times(&self) -> Option<&ScalarBuffer<i64>> {
        self.event_times.as_ref()
    }

    pub fn row_kinds(&self) -> Option<&ScalarBuffer<u8>> {
        self.row_kinds.as_ref()
    }

    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The same times, kinds and positions with other columns, of as many rows.
    pub fn with_rows(&self, rows: RecordBatch) -> Batch {
        assert_eq!(rows.num_rows(), self.num_rows(), "columns are replaced row for row");
        Batch { rows, ..self.clone() }
    }

    pub fn slice(&self, offset: usize, length: usize) -> Batch {
        Batch {
            rows: self.rows.slice(offset, length),
            event_times: self.event_times.as_ref().map(|times| times.slice(offset, length)),
            row_kinds: self.row_kinds.as_ref().map(|kinds| kinds.slice(offset, length)),
            positions: self.positions.slice(offset, length),
        }
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &[u32]) -> Result<Batch, ArrowError> {
        let array = UInt32Array::from(indices.to_vec());
        let columns =
            self.rows.columns().iter().map(|column| take(column, &array, None)).collect::<Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(indices.len()));
        let rows = RecordBatch::try_new_with_options(self.rows.schema(), columns, &options)?;
        Ok(self.beside_taken(rows, indices))
    }

    /// Other columns for the rows at `indices`: what is beside the rows follows.
    pub fn beside_taken(&self, rows: RecordBatch, indices: &[u32]) -> Batch {
        Batch {
            rows,
            event_times: self.event_times.as_ref().map(|all| indices.iter().map(|&row| all[row as usize]).collect()),
            row_kinds: self.row_kinds.as_ref().map(|all| indices.iter().map(|&row| all[row as usize]).collect()),
            positions: self.positions.take(indices),
        }
    }

    /// The rows where `keep` is true.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Batch, ArrowError> {
        if keep.true_count() == self.num_rows() {
            return Ok(self.clone());
        }
        let rows = filter_record_batch(&self.rows, keep)?;
        let indices: Vec<u32> = keep.values().set_indices_u32().collect();
        Ok(self.beside_taken(rows, &indices))
    }

    /// All rows of `batches`, in order. They have one schema and there is at least one.
    pub fn concat(batches: &[Batch]) -> Result<Batch, ArrowError> {
        if let [one] = batches {
            return Ok(one.clone());
        }
        let Some(first) = batches.first() else {
            return Err(ArrowError::InvalidArgumentError("concat of no batches".into()));
        };
        let rows = concat_batches(&first.schema(), batches.iter().map(|batch| &batch.rows))?;
        let timed = batches.iter().any(|batch| batch.event_times.is_some());
        let kinded = batches.iter().any(|batch| batch.row_kinds.is_some());
        Ok(Batch {
            rows,
            event_times: timed.then(|| gather(batches, |batch| batch.event_times.as_deref(), NO_TIME)),
            row_kinds: kinded.then(|| gather(batches, |batch| batch.row_kinds.as_deref(), 0)),
            positions: Positions::concat(batches.iter().map(|batch| (&batch.positions, batch.num_rows()))),
        })
    }
}

fn gather<T: arrow::datatypes::ArrowNativeType>(
    batches: &[Batch],
    part: impl Fn(&Batch) -> Option<&[T]>,
    missing: T,
) -> ScalarBuffer<T> {
    let mut all = Vec::with_capacity(batches.iter().map(Batch::num_rows).sum());
    for batch in batches {
        match part(batch) {
            Some(values) => all.extend_from_slice(values),
            None => all.resize(all.len() + batch.num_rows(), missing),
        }
    }
    all.into()
}

/// What a channel carries. Watermarks and the end travel in band, so that they keep their place among the rows.
#[derive(Debug, Clone)]
pub(crate) enum StreamElement {
    Batch(Batch),
    /// No row with an event time at or before it is expected any more.
    Watermark(i64),
    /// What was before it is part of a checkpoint, what follows is not.
    Barrier(Barrier),
    /// Nothing follows on this channel.
    EndOfInput,
}

/// Columns as a record batch, for rows that may have no column at all.
pub fn record_batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

/// A struct array's fields as columns; anything else as the one column `name`.
pub fn columns_of(array: &ArrayRef, splat: bool) -> Vec<ArrayRef> {
    match array.as_any().downcast_ref::<arrow::array::StructArray>() {
        Some(rows) if splat => rows.columns().to_vec(),
        _ => vec![Arc::clone(array)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    fn batch(values: std::ops::Range<i64>) -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        let start = values.start as u64;
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values.clone()));
        Batch::new(RecordBatch::try_new(schema, vec![column]).unwrap())
            .with_event_times(Some(values.collect::<Vec<_>>().into()))
            .with_positions(Positions::From(start))
    }

    #[test]
    fn positions_stay_a_range_while_rows_stay_in_order() {
        let all = Batch::concat(&[batch(0..3), batch(3..5)]).unwrap();
        assert_eq!(all.positions(), &Positions::From(0));
        let gap = Batch::concat(&[batch(0..3), batch(4..5)]).unwrap();
        assert_eq!(gap.positions(), &Positions::Each(vec![0, 1, 2, 4].into()));
    }

    #[test]
    fn what_is_beside_the_rows_follows_them() {
        let taken = batch(10..20).take(&[3, 1]).unwrap();
        assert_eq!(taken.event_times().unwrap().as_ref(), &[13, 11]);
        assert_eq!(taken.positions().get(1), Some(11));
        let kept = batch(10..14).filter(&BooleanArray::from(vec![true, false, false, true])).unwrap();
        assert_eq!(kept.event_times().unwrap().as_ref(), &[10, 13]);
        assert_eq!(kept.slice(1, 1).positions().get(0), Some(13));
    }

    #[test]
    fn a_position_keeps_split_and_row() {
        assert_eq!(split_and_row(position(7, 123_456_789_012)), (7, 123_456_789_012));
    }
}
