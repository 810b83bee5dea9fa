//! Operators without state: added columns, selection.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, new_empty_array};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::Deserialize;
use serde_json::json;
use wasmill_host::{Effects, Fault, Operation, RowError};

use crate::batch::{Batch, record_batch};
use crate::checkpoint::SnapshotError;
use crate::checkpoint::restore::NodeState;
use crate::checkpoint::snapshot::{Barrier, NodeSnapshot};
use crate::error::JobError;
use crate::graph::{BoundCall, ColumnPlace};
use crate::key::KeyEncoder;
use crate::operator::bundled::BundleOperator;
use crate::operator::pieces::{Pieces, kept, whole_column};
use crate::operator::udf::{CallerState, Context, KeyedInput, UdfCaller};
use crate::operator::{Emitter, Operator};
use crate::state::KeyedState;

/// `with`: adds or replaces columns.
pub(crate) struct With {
    columns: Vec<(ColumnPlace, UdfCaller)>,
    schema: SchemaRef,
    node: String,
    rows: Batch,
    /// Of each function, for all of `rows`.
    arguments: Vec<Vec<ArrayRef>>,
    /// What the functions of a bundle have answered so far.
    computed: Vec<ArrayRef>,
    pieces: Pieces,
}

impl With {
    pub(crate) fn open(
        columns: &[(ColumnPlace, BoundCall)],
        schema: SchemaRef,
        context: &Context,
    ) -> Result<With, JobError> {
        let open = |(place, call): &(ColumnPlace, BoundCall)| {
            Ok((*place, UdfCaller::open(call, context, KeyedState::none())?))
        };
        let columns = columns.iter().map(open).collect::<Result<Vec<_>, JobError>>()?;
        let node = context.place.node.clone();
        Ok(With {
            columns,
            schema,
            node,
            rows: Batch::empty(),
            arguments: Vec::new(),
            computed: Vec::new(),
            pieces: Pieces::default(),
        })
    }

    fn arrow(&self, error: ArrowError) -> JobError {
        JobError::Arrow { node: self.node.clone(), error }
    }

    /// The function that `fault` comes from. Others keep their instances.
    fn failed(&mut self, fault: &Fault) -> &mut UdfCaller {
        let failed =
            |udf: &UdfCaller| *udf.call().udf.name == *fault.udf && udf.call().binding.function == fault.function;
        // One function may stand in several columns: only the instance that was lost is poisoned.
        let index = self.columns.iter().position(|(_, udf)| failed(udf) && udf.is_lost());
        let index = index.or_else(|| self.columns.iter().position(|(_, udf)| failed(udf)));
        &mut self.columns[index.expect("a fault bears the names of the call that it was in")].1
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

    fn rows(&self) -> &Batch {
        &self.rows
    }

    fn begin(&mut self, rows: Batch) -> Result<usize, JobError> {
        let arguments = self.columns.iter().map(|(_, udf)| udf.arguments(&rows));
        self.arguments = arguments.collect::<Result<_, _>>()?;
        self.rows = rows;
        Ok(self.rows.num_rows())
    }

    fn bundle(&mut self, part: Range<usize>) -> Result<(), JobError> {
        self.computed.clear();
        for ((_, udf), arguments) in self.columns.iter_mut().zip(&self.arguments) {
            let keyed = KeyedInput::default();
            let effects = udf.rows(Operation::Process, &self.rows, arguments, part.clone(), &keyed)?;
            let column = result_of(udf, &effects);
            self.computed.push(column.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?);
            if !effects.errors.is_empty() {
                let computed = std::mem::take(&mut self.computed);
                return self.without_raised(part, computed, effects);
            }
        }
        self.pieces.push(part, self.computed.drain(..));
        Ok(())
    }

    fn lost(&mut self, rows: Range<usize>, fault: &Fault) -> Result<(), JobError> {
        let position = self.rows.positions().get(rows.start);
        self.failed(fault).lost(position, rows.len(), fault)
    }

    fn bad_row(&mut self, row: usize, fault: &Fault) -> Result<(), JobError> {
        let rows = self.rows.clone();
        self.failed(fault).bad_row(&rows, row, fault)
    }

    fn given_up(&mut self, fault: &Fault, error: JobError) -> JobError {
        self.failed(fault).given_up(fault, error)
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

    fn snapshot(&mut self, _: &Barrier) -> Result<NodeSnapshot, JobError> {
        let calls: Vec<CallerState> = self.columns.iter().map(|(_, udf)| udf.state()).collect();
        Ok(NodeSnapshot { own: json!({ "calls": calls }), ..NodeSnapshot::default() })
    }

    fn restore(&mut self, state: &NodeState<'_>) -> Result<(), SnapshotError> {
        #[derive(Deserialize)]
        struct Own {
            calls: Vec<CallerState>,
        }
        let own: Vec<Own> = state.own()?;
        for (index, (_, udf)) in self.columns.iter_mut().enumerate() {
            udf.restore(own.iter().filter_map(|own| own.calls.get(index).copied()));
        }
        Ok(())
    }

    fn key(&self) -> Option<&KeyEncoder> {
        None
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

    fn flush(&mut self, _: bool, _: &mut Emitter<'_>) -> Result<(), JobError> {
        Ok(())
    }

    fn flush_due(&self) -> Option<Duration> {
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

    fn flush(&mut self, _: bool, _: &mut Emitter<'_>) -> Result<(), JobError> {
        Ok(())
    }

    fn flush_due(&self) -> Option<Duration> {
        None
    }
}
