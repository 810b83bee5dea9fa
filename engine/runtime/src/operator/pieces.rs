//! What the bundles of one batch put out, gathered until it is passed on: joined once for all of them, not bundle by bundle.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, NullBufferBuilder, new_empty_array};
use arrow::buffer::{BooleanBuffer, MutableBuffer};
use arrow::compute::{concat, filter};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use wasmill_host::{Effects, Output, RowError};

use crate::batch::Batch;
use crate::fixed::{fixed_array, fixed_bytes};

/// Output columns of a batch's bundles so far, and the row of the batch that each of their rows comes from.
#[derive(Default)]
pub(crate) struct Pieces {
    columns: Vec<Column>,
    sources: Sources,
    /// `None` while all are of the kind of their source.
    row_kinds: Option<Vec<u8>>,
}

/// Arrays of at most so many rows are copied together as they come: to keep each until the end costs more than its values.
const SMALL_ROWS_MAX: usize = 64;

/// One output column.
#[derive(Default)]
struct Column {
    arrays: Vec<ArrayRef>,
    /// Behind them.
    small: Option<Small>,
}

/// The values of small arrays of a type of fixed width.
struct Small {
    data_type: DataType,
    values: MutableBuffer,
    nulls: NullBufferBuilder,
}

impl Column {
    fn push(&mut self, array: ArrayRef) {
        if array.len() > SMALL_ROWS_MAX || array.data_type().primitive_width().is_none() {
            self.end_small();
            self.arrays.push(array);
            return;
        }
        let small = self.small.get_or_insert_with(|| Small {
            data_type: array.data_type().clone(),
            values: MutableBuffer::default(),
            nulls: NullBufferBuilder::new(0),
        });
        small.values.extend_from_slice(fixed_bytes(&array));
        match array.nulls() {
            None => small.nulls.append_n_non_nulls(array.len()),
            Some(nulls) => small.nulls.append_buffer(nulls),
        }
    }

    fn end_small(&mut self) {
        if let Some(Small { data_type, values, mut nulls }) = self.small.take() {
            self.arrays.push(fixed_array(&data_type, values.into(), nulls.len(), nulls.finish()));
        }
    }

    /// All of it, of the given type if there is nothing.
    fn take(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        self.end_small();
        let all = match self.arrays.as_slice() {
            [] => new_empty_array(data_type),
            [one] => Arc::clone(one),
            many => concat(&many.iter().map(|column| column.as_ref()).collect::<Vec<&dyn Array>>())?,
        };
        self.arrays.clear();
        Ok(all)
    }
}

/// Rows of a batch.
pub(crate) enum Sources {
    /// These, each once: nothing was left out yet.
    All(Range<usize>),
    Each(Vec<u32>),
}

impl Default for Sources {
    fn default() -> Sources {
        Sources::All(0..0)
    }
}

impl Sources {
    fn len(&self) -> usize {
        match self {
            Sources::All(rows) => rows.len(),
            Sources::Each(rows) => rows.len(),
        }
    }

    /// Adds rows, each once.
    fn extend(&mut self, rows: Range<usize>) {
        match self {
            Sources::All(all) if all.start == all.end => *all = rows,
            Sources::All(all) if all.end == rows.start => all.end = rows.end,
            _ => self.each().extend(rows.map(|row| row as u32)),
        }
    }

    fn each(&mut self) -> &mut Vec<u32> {
        if let Sources::All(rows) = self {
            *self = Sources::Each(rows.clone().map(|row| row as u32).collect());
        }
        match self {
            Sources::Each(rows) => rows,
            Sources::All(_) => unreachable!("it has just been made so"),
        }
    }

    fn last(&self, count: usize) -> impl Iterator<Item = usize> {
        let rows: Vec<usize> = match self {
            Sources::All(rows) => (rows.end - count..rows.end).collect(),
            Sources::Each(rows) => rows[rows.len() - count..].iter().map(|&row| row as usize).collect(),
        };
        rows.into_iter()
    }

    /// These rows of `batch`.
    pub(crate) fn of(&self, batch: &Batch) -> Result<Batch, ArrowError> {
        match self {
            Sources::All(rows) if rows.len() == batch.num_rows() => Ok(batch.clone()),
            Sources::All(rows) => Ok(batch.slice(rows.start, rows.len())),
            Sources::Each(rows) => batch.take(rows),
        }
    }
}

impl Pieces {
    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.sources.len()
    }

    /// Adds a value of each column for every row of `rows`.
    pub(crate) fn push(&mut self, rows: Range<usize>, columns: impl Iterator<Item = ArrayRef>) {
        self.sources.extend(rows);
        self.push_columns(columns);
    }

    /// The same for some rows.
    pub(crate) fn push_some(&mut self, rows: impl Iterator<Item = u32>, columns: impl Iterator<Item = ArrayRef>) {
        self.sources.each().extend(rows);
        self.push_columns(columns);
    }

    fn push_columns(&mut self, columns: impl Iterator<Item = ArrayRef>) {
        for (index, column) in columns.enumerate() {
            if self.columns.len() <= index {
                self.columns.push(Column::default());
            }
            self.columns[index].push(column);
        }
    }

    /// Adds what a call with the rows `part` of `batch` put out, which is one column.
    pub(crate) fn push_effects(
        &mut self,
        batch: &Batch,
        part: Range<usize>,
        one_to_one: bool,
        effects: &Effects,
    ) -> Result<(), ArrowError> {
        if one_to_one && !effects.errors.is_empty() {
            let keep = kept(part.len(), &effects.errors);
            let rows = keep.values().set_indices().map(|row| (part.start + row) as u32);
            let whole = whole_column(&effects.outputs)?;
            let column = whole.map(|column| filter(&column, &keep)).transpose()?;
            self.push_some(rows, column.into_iter());
            return Ok(());
        }
        for Output { column, source_rows, row_kinds } in &effects.outputs {
            match source_rows {
                Some(rows) if !is_each_once(rows, part.len()) => {
                    let rows = rows.iter().map(|row| part.start as u32 + row);
                    self.push_some(rows, std::iter::once(Arc::clone(column)));
                }
                _ => self.push(part.clone(), std::iter::once(Arc::clone(column))),
            }
            // A function that answers row for row cannot change their kinds.
            let kinds = row_kinds.as_deref().filter(|_| !one_to_one);
            self.push_kinds(batch, column.len(), kinds);
        }
        Ok(())
    }

    /// The kinds of the last `count` rows.
    fn push_kinds(&mut self, batch: &Batch, count: usize, kinds: Option<&[u8]>) {
        if self.row_kinds.is_none() && kinds.is_none() {
            return;
        }
        let of_sources = |count: usize| -> Vec<u8> {
            let kind = |row: usize| batch.row_kinds().map_or(0, |kinds| kinds[row]);
            self.sources.last(count).map(kind).collect()
        };
        let mut all = match self.row_kinds.take() {
            Some(all) => all,
            None => of_sources(self.rows())[..self.rows() - count].to_vec(),
        };
        match kinds {
            Some(kinds) => all.extend_from_slice(kinds),
            None => all.extend(of_sources(count)),
        }
        self.row_kinds = Some(all);
    }

    /// Everything so far: the columns, of the given types where there is no row, and where their rows come from.
    pub(crate) fn take<'a>(&mut self, types: impl Iterator<Item = &'a DataType>) -> Result<Taken, ArrowError> {
        let mut columns = Vec::new();
        for (index, data_type) in types.enumerate() {
            columns.push(match self.columns.get_mut(index) {
                None => new_empty_array(data_type),
                Some(column) => column.take(data_type)?,
            });
        }
        let row_kinds = self.row_kinds.take();
        Ok(Taken { columns, sources: std::mem::take(&mut self.sources), row_kinds })
    }
}

/// The joined output of some bundles.
pub(crate) struct Taken {
    pub columns: Vec<ArrayRef>,
    pub sources: Sources,
    pub row_kinds: Option<Vec<u8>>,
}

/// Do these rows say that each of `count` rows gave one, in order?
fn is_each_once(rows: &[u32], count: usize) -> bool {
    rows.len() == count && rows.iter().zip(0..).fold(true, |all, (&row, index)| all & (row == index))
}

/// Everything that the answers of one call put out, as one column; `None` if there were none.
pub(crate) fn whole_column(outputs: &[Output]) -> Result<Option<ArrayRef>, ArrowError> {
    match outputs {
        [] => Ok(None),
        [one] => Ok(Some(Arc::clone(&one.column))),
        many => concat(&many.iter().map(|output| output.column.as_ref()).collect::<Vec<&dyn Array>>()).map(Some),
    }
}

/// True for each of `rows` that did not raise.
pub(crate) fn kept(rows: usize, errors: &[RowError]) -> BooleanArray {
    let mut keep = vec![true; rows];
    for error in errors {
        keep[error.row as usize] = false;
    }
    BooleanArray::new(BooleanBuffer::from(keep), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{Field, Int64Type, Schema};

    fn batch(rows: i64) -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        Batch::new(RecordBatch::try_new(schema, vec![column]).unwrap())
    }

    fn effects(values: &[i64], source_rows: Option<Vec<u32>>, row_kinds: Option<Vec<u8>>, errors: &[u32]) -> Effects {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        let error = |&row: &u32| RowError { row, kind: "e".into(), message: String::new(), traceback: String::new() };
        Effects {
            outputs: vec![Output { column, source_rows, row_kinds }],
            errors: errors.iter().map(error).collect(),
            ..Effects::default()
        }
    }

    fn taken(pieces: &mut Pieces, batch: &Batch) -> (Vec<i64>, Vec<i64>, Option<Vec<u8>>) {
        let taken = pieces.take([DataType::Int64].iter()).unwrap();
        let values = taken.columns[0].as_primitive::<Int64Type>().values().to_vec();
        let rows = taken.sources.of(batch).unwrap();
        (values, rows.column(0).as_primitive::<Int64Type>().values().to_vec(), taken.row_kinds)
    }

    #[test]
    fn rows_that_are_all_there_stay_a_range() {
        let (batch, mut pieces) = (batch(10), Pieces::default());
        pieces.push_effects(&batch, 2..4, true, &effects(&[20, 30], None, None, &[])).unwrap();
        pieces.push_effects(&batch, 4..5, true, &effects(&[40], None, None, &[])).unwrap();
        assert!(matches!(pieces.sources, Sources::All(Range { start: 2, end: 5 })));
        assert_eq!(taken(&mut pieces, &batch), (vec![20, 30, 40], vec![2, 3, 4], None));
        assert_eq!(taken(&mut pieces, &batch), (vec![], vec![], None), "all of it was taken");
    }

    #[test]
    fn small_and_large_arrays_are_one_column_in_their_order() {
        let array = |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let lengths = [1, 1, SMALL_ROWS_MAX + 1, 3, SMALL_ROWS_MAX, SMALL_ROWS_MAX + 1, SMALL_ROWS_MAX + 1, 1];
        for nulls in [false, true] {
            let mut next = 0;
            let mut one = || {
                next += 1;
                (!nulls || next % 3 > 0).then_some(next)
            };
            let arrays: Vec<_> = lengths.iter().map(|&rows| (0..rows).map(|_| one()).collect::<Vec<_>>()).collect();
            let mut column = Column::default();
            // Slices too: their values begin somewhere else.
            arrays.iter().for_each(|values| {
                let padded = array([&[Some(-1)], values.as_slice(), &[None]].concat());
                column.push(padded.slice(1, values.len()));
            });
            assert_eq!(&column.take(&DataType::Int64).unwrap(), &array(arrays.concat()));
            assert_eq!(column.take(&DataType::Int64).unwrap().len(), 0, "all of it was taken");
        }
    }

    #[test]
    fn rows_that_raised_or_were_skipped_are_left_out() {
        let (batch, mut pieces) = (batch(10), Pieces::default());
        pieces.push_effects(&batch, 0..3, true, &effects(&[0, 1, 2], None, None, &[1])).unwrap();
        pieces.push_effects(&batch, 3..4, true, &effects(&[3], None, None, &[])).unwrap();
        pieces.push_effects(&batch, 6..7, true, &effects(&[6], None, None, &[])).unwrap();
        assert_eq!(taken(&mut pieces, &batch), (vec![0, 2, 3, 6], vec![0, 2, 3, 6], None));
    }

    #[test]
    fn kinds_are_those_of_the_source_unless_the_function_says() {
        let batch = batch(4).with_row_kinds(Some(vec![0, 1, 2, 3].into()));
        let mut pieces = Pieces::default();
        pieces.push_effects(&batch, 0..2, false, &effects(&[1, 1], Some(vec![1, 1]), None, &[])).unwrap();
        pieces.push_effects(&batch, 2..4, false, &effects(&[9], Some(vec![0]), Some(vec![3]), &[])).unwrap();
        pieces.push_effects(&batch, 2..4, false, &effects(&[8], Some(vec![1]), None, &[])).unwrap();
        assert_eq!(taken(&mut pieces, &batch), (vec![1, 1, 9, 8], vec![1, 1, 2, 3], Some(vec![1, 1, 3, 3])));
    }
}
