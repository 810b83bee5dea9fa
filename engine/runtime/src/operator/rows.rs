//! Operators without state: added columns, selection, filter.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, new_empty_array};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use wasmill_host::{Effects, Fault, Operation, RowError};

use crate::batch::{Batch, record_batch};
use crate::error::JobError;
use crate::graph::{BoundCall, ColumnPlace};
use crate::operator::bundled::BundleOperator;
use crate::operator::pieces::{Pieces, kept, whole_column};
use crate::operator::udf::{Context, KeyedInput, UdfCaller};
use crate::operator::{Emitter, Operator};

/// `with`: adds or replaces columns.
pub(crate) struct With {
    columns: Vec<(ColumnPlace, UdfCaller)>,
    schema: SchemaRef,
    node: String,
    rows: Batch,
    /// Of each function, for all of `rows`.
    arguments: Vec<Vec<ArrayRef>>,
    pieces: Pieces,
}

impl With {
    pub(crate) fn open(
        columns: &[(ColumnPlace, BoundCall)],
        schema: SchemaRef,
        context: &Context,
    ) -> Result<With, JobError> {
        let open = |(place, call): &(ColumnPlace, BoundCall)| Ok((*place, UdfCaller::open(call, context)?));
        let columns = columns.iter().map(open).collect::<Result<Vec<_>, JobError>>()?;
        let node = context.place.node.clone();
        Ok(With { columns, schema, node, rows: Batch::empty(), arguments: Vec::new(), pieces: Pieces::default() })
    }

    fn arrow(&self, error: ArrowError) -> JobError {
        JobError::Arrow { node: self.node.clone(), error }
    }

    /// A bundle in which a row raised at `raised` functions: rows are not shown to the functions behind the one that they raised in.
    /// What becomes of them waits until the last function has answered: if it fails, all is done again.
    fn without_raised(
        &mut self,
        part: Range<usize>,
        mut computed: Vec<ArrayRef>,
        effects: Effects,
    ) -> Result<(), JobError> {
        let mut rows = self.rows.slice(part.start, part.len());
        let mut from: Vec<u32> = part.map(|row| row as u32).collect();
        let mut raised: Vec<(usize, Batch, Vec<RowError>)> = Vec::new();
        let mut next = Some((computed.len() - 1, effects));
        while let Some((index, effects)) = next.take() {
            if !effects.errors.is_empty() {
                let keep = kept(rows.num_rows(), &effects.errors);
                raised.push((index, rows.clone(), effects.errors));
                rows = rows.filter(&keep).map_err(|error| self.arrow(error))?;
                from = keep.values().set_indices().map(|row| from[row]).collect();
                for column in &mut computed {
                    *column = filter(column, &keep).map_err(|error| self.arrow(error))?;
                }
            }
            if let Some((_, udf)) = self.columns.get_mut(index + 1)
                && rows.num_rows() > 0
            {
                let arguments = udf.arguments(&rows)?;
                let all = 0..rows.num_rows();
                let effects = udf.rows(Operation::Process, &rows, &arguments, all, &KeyedInput::default())?;
                computed.push(result_of(udf, &effects).map_err(|error| self.arrow(error))?);
                next = Some((index + 1, effects));
            }
        }
        for (index, rows, errors) in &raised {
            self.columns[*index].1.row_errors(rows, 0, errors)?;
        }
        self.pieces.push_some(from.into_iter(), computed.into_iter());
        Ok(())
    }
}

/// The one column that a scalar function answers.
fn result_of(udf: &UdfCaller, effects: &Effects) -> Result<ArrayRef, ArrowError> {
    Ok(whole_column(&effects.outputs)?.unwrap_or_else(|| new_empty_array(&udf.call().loaded.result.data_type)))
}

impl BundleOperator for With {
    fn node(&self) -> &str {
        &self.node
    }

    fn begin(&mut self, rows: Batch) -> Result<usize, JobError> {
        let arguments = self.columns.iter().map(|(_, udf)| udf.arguments(&rows));
        self.arguments = arguments.collect::<Result<_, _>>()?;
        self.rows = rows;
        Ok(self.rows.num_rows())
    }

    fn bundle(&mut self, part: Range<usize>) -> Result<(), JobError> {
        let mut computed: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for ((_, udf), arguments) in self.columns.iter_mut().zip(&self.arguments) {
            let keyed = KeyedInput::default();
            let effects = udf.rows(Operation::Process, &self.rows, arguments, part.clone(), &keyed)?;
            let column = result_of(udf, &effects);
            computed.push(column.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?);
            if !effects.errors.is_empty() {
                return self.without_raised(part, computed, effects);
            }
        }
        self.pieces.push(part, computed.into_iter());
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), JobError> {
        self.columns.iter_mut().try_for_each(|(_, udf)| udf.reopen())
    }

    fn bad_row(&mut self, row: usize, fault: &Fault) -> Result<(), JobError> {
        let failed =
            |udf: &UdfCaller| *udf.call().udf.name == *fault.udf && udf.call().binding.function == fault.function;
        let udf = self.columns.iter_mut().map(|(_, udf)| udf).find(|udf| failed(udf));
        let udf = udf.expect("a fault bears the names of the call that it was in");
        udf.bad_row(&self.rows, row, fault)
    }

    fn ready(&self) -> usize {
        self.pieces.rows()
    }

    fn take(&mut self, out: &mut Vec<Batch>) -> Result<(), JobError> {
        if self.pieces.rows() == 0 {
            return Ok(());
        }
        let types = self.columns.iter().map(|(_, udf)| &udf.call().loaded.result.data_type);
        let taken = self.pieces.take(types);
        let taken = taken.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
        let rows = taken.sources.of(&self.rows).map_err(|error| self.arrow(error))?;
        let mut columns = rows.rows().columns().to_vec();
        for ((place, _), column) in self.columns.iter().zip(taken.columns) {
            match place {
                ColumnPlace::Replace(index) => columns[*index] = column,
                ColumnPlace::Append => columns.push(column),
            }
        }
        let all =
            record_batch(Arc::clone(&self.schema), columns, rows.num_rows()).map_err(|error| self.arrow(error))?;
        out.push(rows.with_rows(all));
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, _: &mut Vec<Batch>) -> Result<(), JobError> {
        self.columns.iter_mut().for_each(|(_, udf)| udf.set_watermark(watermark));
        Ok(())
    }
}

/// Keeps the rows for which the function gives true.
pub(crate) struct Filter {
    udf: UdfCaller,
    node: String,
    rows: Batch,
    arguments: Vec<ArrayRef>,
    /// Rows before these have been taken.
    taken: usize,
    keep: BooleanBufferBuilder,
}

impl Filter {
    pub(crate) fn open(call: &BoundCall, context: &Context) -> Result<Filter, JobError> {
        let (udf, node) = (UdfCaller::open(call, context)?, context.place.node.clone());
        let keep = BooleanBufferBuilder::new(0);
        Ok(Filter { udf, node, rows: Batch::empty(), arguments: Vec::new(), taken: 0, keep })
    }
}

impl BundleOperator for Filter {
    fn node(&self) -> &str {
        &self.node
    }

    fn begin(&mut self, rows: Batch) -> Result<usize, JobError> {
        self.arguments = self.udf.arguments(&rows)?;
        self.rows = rows;
        self.taken = 0;
        Ok(self.rows.num_rows())
    }

    fn bundle(&mut self, part: Range<usize>) -> Result<(), JobError> {
        let keyed = KeyedInput::default();
        let effects = self.udf.rows(Operation::Process, &self.rows, &self.arguments, part.clone(), &keyed)?;
        self.udf.row_errors(&self.rows, part.start, &effects.errors)?;
        let column =
            whole_column(&effects.outputs).map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
        let Some(column) = column else {
            self.keep.append_n(part.len(), false);
            return Ok(());
        };
        let keep = column.as_boolean();
        // Null is not true, and neither is what a row that raised left in its place.
        let mut bits = keep.values().clone();
        if let Some(nulls) = keep.nulls() {
            bits = &bits & nulls.inner();
        }
        if !effects.errors.is_empty() {
            bits = &bits & kept(part.len(), &effects.errors).values();
        }
        self.keep.append_buffer(&bits);
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), JobError> {
        self.udf.reopen()
    }

    fn bad_row(&mut self, row: usize, fault: &Fault) -> Result<(), JobError> {
        self.keep.append(false);
        self.udf.bad_row(&self.rows, row, fault)
    }

    fn ready(&self) -> usize {
        self.keep.len()
    }

    fn take(&mut self, out: &mut Vec<Batch>) -> Result<(), JobError> {
        let keep = self.keep.finish();
        let rows = self.rows.slice(self.taken, keep.len());
        self.taken += keep.len();
        let kept = rows.filter(&BooleanArray::new(keep, None));
        out.push(kept.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?);
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, _: &mut Vec<Batch>) -> Result<(), JobError> {
        self.udf.set_watermark(watermark);
        Ok(())
    }
}

/// `select`: keeps, orders and renames columns.
pub(crate) struct Select {
    pub columns: Vec<usize>,
    pub schema: SchemaRef,
}

impl Operator for Select {
    fn process(&mut self, batch: Batch, out: &mut Emitter<'_>) -> Result<(), JobError> {
        let columns = self.columns.iter().map(|&index| Arc::clone(batch.column(index))).collect();
        let rows = record_batch(Arc::clone(&self.schema), columns, batch.num_rows());
        out.emit(batch.with_rows(rows.expect("the columns are those that validation selected")))
    }

    fn watermark(&mut self, _: i64, _: &mut Emitter<'_>) -> Result<(), JobError> {
        Ok(())
    }

    fn flush(&mut self, _: &mut Emitter<'_>) -> Result<(), JobError> {
        Ok(())
    }

    fn flush_due(&self) -> Option<Instant> {
        None
    }
}

/// Gives rows of a union its one schema: the inputs' may differ in which columns can be null.
pub(crate) struct Retype {
    pub schema: SchemaRef,
}

impl Operator for Retype {
    fn process(&mut self, batch: Batch, out: &mut Emitter<'_>) -> Result<(), JobError> {
        let rows = record_batch(Arc::clone(&self.schema), batch.rows().columns().to_vec(), batch.num_rows());
        out.emit(batch.with_rows(rows.expect("validation made the inputs' columns agree")))
    }

    fn watermark(&mut self, _: i64, _: &mut Emitter<'_>) -> Result<(), JobError> {
        Ok(())
    }

    fn flush(&mut self, _: &mut Emitter<'_>) -> Result<(), JobError> {
        Ok(())
    }

    fn flush_due(&self) -> Option<Instant> {
        None
    }
}
