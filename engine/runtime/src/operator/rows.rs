//! Operators without state: added columns, selection, map, flat map, filter.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter;
use arrow::datatypes::{DataType, SchemaRef};
use wasmill_host::{Effects, Fault, Operation, Output, RowError};

use crate::batch::{Batch, columns_of, record_batch};
use crate::dead_letter::record_of;
use crate::error::JobError;
use crate::graph::{BoundCall, ColumnPlace};
use crate::operator::bundled::BundleOperator;
use crate::operator::udf::{Context, KeyedInput, UdfCaller, kept, whole_column};
use crate::operator::{Emitter, Operator};

/// `with`: adds or replaces columns.
pub(crate) struct With {
    columns: Vec<(ColumnPlace, UdfCaller)>,
    schema: SchemaRef,
    node: String,
}

impl With {
    pub(crate) fn open(
        columns: &[(ColumnPlace, BoundCall)],
        schema: SchemaRef,
        context: &Context,
    ) -> Result<With, JobError> {
        let open = |(place, call): &(ColumnPlace, BoundCall)| Ok((*place, UdfCaller::open(call, context)?));
        let columns = columns.iter().map(open).collect::<Result<Vec<_>, JobError>>()?;
        Ok(With { columns, schema, node: context.place.node.clone() })
    }
}

impl BundleOperator for With {
    fn node(&self) -> &str {
        &self.node
    }

    fn bundle(&mut self, rows: &Batch, out: &mut Vec<Batch>) -> Result<(), JobError> {
        let arrow = |error| JobError::Arrow { node: self.node.clone(), error };
        // Rows that one function raised on are not shown to the next. What becomes of them waits until the last function has
        // answered: if it fails, all is done again.
        let mut raised: Vec<(Batch, Vec<RowError>)> = Vec::new();
        let mut rows = rows.clone();
        let mut computed: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (_, udf) in &mut self.columns {
            let effects = udf.rows(Operation::Process, &rows, &KeyedInput::default())?;
            let column = whole_column(&effects.outputs, &udf.call().loaded.result.data_type).map_err(arrow)?;
            computed.push(column);
            let keep = kept(rows.num_rows(), &effects.errors);
            raised.push((rows.clone(), effects.errors));
            if let Some(keep) = keep {
                rows = rows.filter(&keep).map_err(arrow)?;
                for column in &mut computed {
                    *column = filter(column, &keep).map_err(arrow)?;
                }
            }
        }
        for ((_, udf), (rows, errors)) in self.columns.iter_mut().zip(&raised) {
            udf.row_errors(rows, errors)?;
        }
        let mut columns = rows.rows().columns().to_vec();
        for ((place, _), column) in self.columns.iter().zip(computed) {
            match place {
                ColumnPlace::Replace(index) => columns[*index] = column,
                ColumnPlace::Append => columns.push(column),
            }
        }
        let all = record_batch(Arc::clone(&self.schema), columns, rows.num_rows()).map_err(arrow)?;
        out.push(rows.with_rows(all));
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), JobError> {
        self.columns.iter_mut().try_for_each(|(_, udf)| udf.reopen())
    }

    fn bad_row(&mut self, row: &Batch, fault: &Fault) -> Result<(), JobError> {
        let failed =
            |udf: &UdfCaller| *udf.call().udf.name == *fault.udf && udf.call().binding.function == fault.function;
        let udf = self.columns.iter_mut().map(|(_, udf)| udf).find(|udf| failed(udf));
        let udf = udf.expect("a fault bears the names of the call that it was in");
        udf.bad_row(fault, row.positions().get(0), || record_of(row.rows(), 0))
    }

    fn watermark(&mut self, watermark: i64, _: &mut Vec<Batch>) -> Result<(), JobError> {
        self.columns.iter_mut().for_each(|(_, udf)| udf.set_watermark(watermark));
        Ok(())
    }
}

/// map and flat map: rows out in place of the row in.
pub(crate) struct Rows {
    udf: UdfCaller,
    schema: SchemaRef,
    node: String,
}

impl Rows {
    pub(crate) fn open(call: &BoundCall, schema: SchemaRef, context: &Context) -> Result<Rows, JobError> {
        Ok(Rows { udf: UdfCaller::open(call, context)?, schema, node: context.place.node.clone() })
    }
}

impl BundleOperator for Rows {
    fn node(&self) -> &str {
        &self.node
    }

    fn bundle(&mut self, rows: &Batch, out: &mut Vec<Batch>) -> Result<(), JobError> {
        let effects = self.udf.rows(Operation::Process, rows, &KeyedInput::default())?;
        self.udf.row_errors(rows, &effects.errors)?;
        output_batches(rows, &effects, self.udf.call(), &self.schema, out)
            .map_err(|error| JobError::Arrow { node: self.node.clone(), error })
    }

    fn reopen(&mut self) -> Result<(), JobError> {
        self.udf.reopen()
    }

    fn bad_row(&mut self, row: &Batch, fault: &Fault) -> Result<(), JobError> {
        self.udf.bad_row(fault, row.positions().get(0), || record_of(row.rows(), 0))
    }

    fn watermark(&mut self, watermark: i64, _: &mut Vec<Batch>) -> Result<(), JobError> {
        self.udf.set_watermark(watermark);
        Ok(())
    }
}

/// What a call put out, as batches: each row with the time, kind and position of the row that it came from.
pub(crate) fn output_batches(
    rows: &Batch,
    effects: &Effects,
    call: &BoundCall,
    schema: &SchemaRef,
    out: &mut Vec<Batch>,
) -> Result<(), arrow::error::ArrowError> {
    let splat = matches!(call.loaded.result.data_type, DataType::Struct(_));
    if call.kind.is_one_to_one() {
        let column = whole_column(&effects.outputs, &call.loaded.result.data_type)?;
        let (rows, column) = match kept(rows.num_rows(), &effects.errors) {
            None => (rows.clone(), column),
            Some(keep) => (rows.filter(&keep)?, filter(&column, &keep)?),
        };
        let columns = record_batch(Arc::clone(schema), columns_of(&column, splat), rows.num_rows())?;
        out.push(rows.with_rows(columns));
        return Ok(());
    }
    for Output { column, source_rows, row_kinds } in &effects.outputs {
        let columns = record_batch(Arc::clone(schema), columns_of(column, splat), column.len())?;
        let batch = match source_rows {
            Some(source) => rows.beside_taken(columns, source),
            None => rows.with_rows(columns),
        };
        out.push(match row_kinds {
            Some(kinds) => batch.with_row_kinds(Some(kinds.clone().into())),
            None => batch,
        });
    }
    Ok(())
}

/// Keeps the rows for which the function gives true.
pub(crate) struct Filter {
    udf: UdfCaller,
    node: String,
}

impl Filter {
    pub(crate) fn open(call: &BoundCall, context: &Context) -> Result<Filter, JobError> {
        Ok(Filter { udf: UdfCaller::open(call, context)?, node: context.place.node.clone() })
    }
}

impl BundleOperator for Filter {
    fn node(&self) -> &str {
        &self.node
    }

    fn bundle(&mut self, rows: &Batch, out: &mut Vec<Batch>) -> Result<(), JobError> {
        let arrow = |error| JobError::Arrow { node: self.node.clone(), error };
        let effects = self.udf.rows(Operation::Process, rows, &KeyedInput::default())?;
        self.udf.row_errors(rows, &effects.errors)?;
        let column = whole_column(&effects.outputs, &DataType::Boolean).map_err(arrow)?;
        let keep = column.as_boolean();
        // Null is not true, and neither is what a row that raised left in its place.
        let mut bits = keep.values().clone();
        if let Some(nulls) = keep.nulls() {
            bits = &bits & nulls.inner();
        }
        if let Some(kept) = kept(rows.num_rows(), &effects.errors) {
            bits = &bits & kept.values();
        }
        out.push(rows.filter(&BooleanArray::new(bits, None)).map_err(arrow)?);
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), JobError> {
        self.udf.reopen()
    }

    fn bad_row(&mut self, row: &Batch, fault: &Fault) -> Result<(), JobError> {
        self.udf.bad_row(fault, row.positions().get(0), || record_of(row.rows(), 0))
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
