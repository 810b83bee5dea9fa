//! Sources and sinks of Wasmill.
//!
//! [`register`] makes them known by the names that job files use: the sources `parquet`, `csv`, `jsonl`, `generator` and
//! `collection`, the sinks `parquet`, `csv`, `jsonl`, `print` and `blackhole`. Their options stand in the modules of the same
//! names. From Rust there are also [`CollectionSource`] and [`CollectSink`]. [`checkpoint_storage`] is where checkpoints are kept.
//!
//! Paths are relative to the job file. A path is a file, a directory, a glob or a URL (`s3://`, `gs://`, `az://`, `https://`).

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics has failed"))]

mod calendar;
mod checkpoint_storage;
mod collect_sink;
mod collection;
mod columns;
mod contract_types;
mod csv_dialect;
mod csv_records;
mod csv_sink;
mod csv_source;
mod datum;
mod file_sink;
mod file_writer;
mod files;
mod formats;
mod generator;
mod json_guess;
mod json_value;
mod jsonl_source;
mod local_checkpoints;
mod local_output;
mod options;
mod output;
mod parquet_source;
mod position;
mod remote;
mod remote_checkpoints;
mod remote_output;
mod rows;
mod small_sinks;
mod writing_marker;

use std::sync::Arc;

use wasmill_runtime::connector::{ConnectorContext, ConnectorError, ConnectorRegistry, Sink};

pub use checkpoint_storage::checkpoint_storage;
pub use collect_sink::CollectSink;
pub use collection::CollectionSource;
pub use csv_source::SAMPLE_ROWS;
pub use small_sinks::{BlackholeSink, PrintSink};

use file_sink::{FileSink, Format};

/// Makes every connector of this crate known to `registry`.
pub fn register(registry: &mut ConnectorRegistry) {
    registry.register_source("parquet", |context| Ok(Arc::new(parquet_source::ParquetSource::new(context)?)));
    registry.register_source("csv", |context| Ok(Arc::new(csv_source::CsvSource::new(context)?)));
    registry.register_source("jsonl", |context| Ok(Arc::new(jsonl_source::JsonLinesSource::new(context)?)));
    registry.register_source("generator", |context| Ok(Arc::new(generator::GeneratorSource::new(context)?)));
    registry.register_source("collection", |context| Ok(Arc::new(CollectionSource::new(context)?)));
    registry.register_sink("parquet", |context| file_sink(context, formats::Parquet::new));
    registry.register_sink("csv", |context| file_sink(context, csv_sink::Csv::new));
    registry.register_sink("jsonl", |context| file_sink(context, |_| Ok(formats::JsonLines)));
    registry.register_sink("print", |context| Ok(Arc::new(PrintSink::new(context)?)));
    registry.register_sink("blackhole", |_| Ok(Arc::new(BlackholeSink)));
}

fn file_sink<F: Format + 'static>(
    mut context: ConnectorContext<'_>,
    format: impl Fn(&mut ConnectorContext<'_>) -> Result<F, ConnectorError>,
) -> Result<Arc<dyn Sink>, ConnectorError> {
    let format = Arc::new(format(&mut context)?);
    Ok(Arc::new(FileSink::new(context, format)?))
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod round_trip_tests;
