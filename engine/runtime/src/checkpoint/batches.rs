//! Record batches as the body of a file: an Arrow IPC stream, read without believing it.
//!
//! A checksum keeps out what a disk did to a file, not what a person or another program wrote. Arrow's reader takes such bytes for
//! those of a writer: it panics on types, lengths and offsets that no writer makes (of the fuzz target's inputs, on one in twenty),
//! and sets aside as much memory as a length asks for. So it is given the whole body, of which it takes slices, and its panics are
//! caught: the file is at fault then, not the job.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_ipc::reader::StreamDecoder;

use super::SnapshotError;
use super::container::{self, Content};

/// With which a stream ends. Arrow's reader does without, and would take the first batches for all.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Reads a file batch by batch. What it gives shares the file's memory.
pub(crate) struct BatchReader {
    decoder: StreamDecoder,
    rest: Buffer,
    schema: SchemaRef,
    /// Read with the schema.
    first: Option<RecordBatch>,
    failed: bool,
}

impl BatchReader {
    /// # Errors
    /// Whatever the bytes are: no panic.
    pub(crate) fn new(content: Content, file: &Buffer) -> Result<BatchReader, SnapshotError> {
        let mut rest = container::open_buffer(content, file)?;
        if !rest.ends_with(&END) {
            return Err(SnapshotError::Columns("its last columns do not end".into()));
        }
        let mut decoder = StreamDecoder::new();
        let first = guarded(|| decoder.decode(&mut rest))?;
        let schema = decoder.schema().ok_or_else(|| SnapshotError::Columns("it has no columns".into()))?;
        Ok(BatchReader { decoder, rest, schema, first, failed: false })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch; `None` at the end, and after an error.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, SnapshotError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if self.failed {
            return Ok(None);
        }
        let read = guarded(|| match self.decoder.decode(&mut self.rest)? {
            Some(rows) => Ok(Some(rows)),
            None => self.decoder.finish().map(|()| None),
        });
        self.failed = read.is_err();
        read
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, SnapshotError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Ok(done?),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(SnapshotError::Columns(text.unwrap_or("its columns make no sense").to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;
    use arrow_ipc::writer::StreamWriter;

    use super::*;

    fn body() -> Vec<u8> {
        let columns: [(&str, ArrayRef); 3] = [
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
            ("text", Arc::new(StringArray::from(vec![Some("a"), None, Some("")]))),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                    Some([Some(1), None]),
                    None,
                    Some([None, Some(2)]),
                ])),
            ),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
        writer.write(&rows).unwrap();
        writer.write(&rows.slice(1, 2)).unwrap();
        writer.finish().unwrap();
        writer.into_inner().unwrap()
    }

    fn read(body: &[u8]) -> Result<usize, SnapshotError> {
        let mut reader = BatchReader::new(Content::Rows, &container::seal(Content::Rows, body).into())?;
        let mut rows = 0;
        while let Some(batch) = reader.next()? {
            rows += batch.num_rows();
        }
        Ok(rows)
    }

    /// Each byte in turn is another one. Most of what comes of it is an error of Arrow's, some a panic of Arrow's, and none one of ours.
    #[test]
    fn no_byte_makes_it_panic() {
        let good = body();
        assert_eq!(read(&good).unwrap(), 5);
        let mut refused = 0;
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut odd = good.clone();
                odd[at] = byte;
                refused += usize::from(read(&odd).is_err());
            }
        }
        assert!(refused > good.len() / 10, "{refused} of {} changes were seen", 5 * good.len());
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "cut off at {end} of {}", good.len());
        }
    }
}
