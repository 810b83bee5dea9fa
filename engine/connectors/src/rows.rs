//! From rows one by one to batches and rejected rows, as the runtime wants them.

use wasmill_runtime::connector::{ConnectorError, Position, ReadOutcome, RejectedRow, SourceReader};

use crate::columns::Columns;
use crate::datum::cut;
use crate::position::{self, Mark, TextPosition};

/// Rejected rows that are handed over at once, at most.
const REJECTED_MAX: usize = 1000;

/// A row or line longer than this ends the job: a quote that is never closed would otherwise swallow the file.
pub(crate) const ROW_BYTES_MAX: usize = 16 << 20;

/// How much of a rejected row is kept.
pub(crate) const RAW_BYTES_MAX: usize = 4 << 10;

/// What one row came to.
pub(crate) enum Row {
    /// It was appended to the columns.
    Good,
    Rejected {
        raw: String,
        message: String,
    },
    End,
}

/// Reads a text format row by row.
pub(crate) trait RowReader: Send {
    fn read(&mut self, columns: &mut Columns) -> Result<Row, ConnectorError>;
    /// Bytes of the file that have been read.
    fn bytes_read(&self) -> u64;
    /// Right behind the row that was read last.
    fn mark(&self) -> Mark;
}

/// A reader of batches on top of a reader of rows.
pub(crate) struct Batches<R> {
    rows: R,
    columns: Columns,
    /// Rows that come before those in `columns`.
    rejected: Vec<RejectedRow>,
    next_row: u64,
    /// Behind the last row that was given. One more than that may have been read.
    given: TextPosition,
    file: String,
}

impl<R: RowReader> Batches<R> {
    /// Begins at `from`, where `rows` does.
    pub(crate) fn new(rows: R, columns: Columns, file: String, from: TextPosition) -> Batches<R> {
        Batches { rows, columns, rejected: Vec::new(), next_row: from.row, given: from, file }
    }

    /// Everything before the row `row`, which begins at `mark`, is given.
    fn give(&mut self, row: u64, mark: Mark) {
        self.given = TextPosition { row, byte: mark.byte, line: mark.line, ..self.given };
    }

    fn finish(&mut self) -> Result<ReadOutcome, ConnectorError> {
        let first_row = self.next_row - self.columns.rows() as u64;
        let rows = self.columns.finish().map_err(|error| {
            ConnectorError::new(format!("{}: cannot make columns of rows {first_row} and on", self.file))
                .caused_by(error)
        })?;
        Ok(ReadOutcome::Rows { rows, first_row })
    }

    fn take_rejected(&mut self) -> ReadOutcome {
        ReadOutcome::Rejected(std::mem::take(&mut self.rejected))
    }
}

impl<R: RowReader> SourceReader for Batches<R> {
    fn next(&mut self, rows_max: usize) -> Result<ReadOutcome, ConnectorError> {
        loop {
            let before = self.rows.mark();
            if self.columns.rows() >= rows_max.max(1) {
                self.give(self.next_row, before);
                return self.finish();
            }
            match self.rows.read(&mut self.columns)? {
                Row::Good => {
                    if !self.rejected.is_empty() {
                        self.give(self.next_row, before);
                        self.next_row += 1;
                        return Ok(self.take_rejected());
                    }
                    self.next_row += 1;
                }
                Row::Rejected { raw, message } => {
                    let batch = if self.columns.rows() > 0 { Some(self.finish()?) } else { None };
                    if batch.is_some() {
                        self.give(self.next_row, before);
                    }
                    let raw = cut(&raw, RAW_BYTES_MAX - 4).into_owned();
                    self.rejected.push(RejectedRow { row: self.next_row, raw, message });
                    self.next_row += 1;
                    if let Some(batch) = batch {
                        return Ok(batch);
                    }
                    if self.rejected.len() >= REJECTED_MAX {
                        self.give(self.next_row, self.rows.mark());
                        return Ok(self.take_rejected());
                    }
                }
                Row::End if self.columns.rows() > 0 => {
                    self.give(self.next_row, before);
                    return self.finish();
                }
                Row::End if !self.rejected.is_empty() => {
                    self.give(self.next_row, before);
                    return Ok(self.take_rejected());
                }
                Row::End => return Ok(ReadOutcome::End),
            }
        }
    }

    fn done(&self) -> u64 {
        self.rows.bytes_read()
    }

    fn position(&self) -> Position {
        position::write(&self.given)
    }
}

/// A row's bytes for a person.
pub(crate) fn raw_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(RAW_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Reading a whole source in tests.
    use arrow::array::RecordBatch;
    use wasmill_runtime::connector::{ConnectorError, Position, ReadOutcome, RejectedRow, Source, SourceReader, Split};

    /// Everything that a source has, with the number of each batch's first row; fails the test when rows are lost.
    pub(crate) struct All {
        pub batches: Vec<(u64, RecordBatch)>,
        pub rejected: Vec<RejectedRow>,
    }

    impl All {
        pub(crate) fn rows(&self) -> RecordBatch {
            let batches: Vec<&RecordBatch> = self.batches.iter().map(|(_, batch)| batch).collect();
            arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap()
        }

        pub(crate) fn messages(&self) -> Vec<&str> {
            self.rejected.iter().map(|row| row.message.as_str()).collect()
        }
    }

    pub(crate) fn read(source: &dyn Source, rows_max: usize) -> Result<All, ConnectorError> {
        let mut all = All { batches: Vec::new(), rejected: Vec::new() };
        for split in source.splits()? {
            let mut reader = source.open(&split, None)?;
            let mut next_row = 0;
            loop {
                match reader.next(rows_max)? {
                    ReadOutcome::Rows { rows, first_row } => {
                        assert!((1..=rows_max).contains(&rows.num_rows()));
                        assert_eq!(first_row, next_row, "rows in order, none lost");
                        assert_eq!(rows.schema(), source.schema());
                        next_row += rows.num_rows() as u64;
                        all.batches.push((first_row, rows));
                    }
                    ReadOutcome::Rejected(rows) => {
                        for row in rows {
                            assert_eq!(row.row, next_row, "rows in order, none lost");
                            next_row += 1;
                            all.rejected.push(row);
                        }
                    }
                    ReadOutcome::Pending(time) => std::thread::sleep(time.min(std::time::Duration::from_millis(5))),
                    ReadOutcome::End => break,
                }
            }
        }
        Ok(all)
    }

    /// A row with its number.
    #[derive(Debug, PartialEq)]
    enum One {
        Good(u64, RecordBatch),
        Rejected(RejectedRow),
    }

    /// What `next` gives; `None` at the end.
    fn some(reader: &mut dyn SourceReader, rows_max: usize) -> Option<Vec<One>> {
        loop {
            match reader.next(rows_max).unwrap() {
                ReadOutcome::Rows { rows, first_row } => {
                    let one = |at: usize| One::Good(first_row + at as u64, rows.slice(at, 1));
                    return Some((0..rows.num_rows()).map(one).collect());
                }
                ReadOutcome::Rejected(rows) => return Some(rows.into_iter().map(One::Rejected).collect()),
                ReadOutcome::Pending(time) => std::thread::sleep(time),
                ReadOutcome::End => return None,
            }
        }
    }

    fn rest(source: &dyn Source, split: &Split, from: Option<&Position>, rows_max: usize) -> Vec<One> {
        let mut reader = source.open(split, from).unwrap();
        std::iter::from_fn(|| some(reader.as_mut(), rows_max)).flatten().collect()
    }

    /// Reads with a new reader for each call of `next`, whose sizes come from `sizes` in turn: each begins at the position of the
    /// one before it, from where the rest is read, too. Everything must be as one reader gives it. Floats must not be NaN.
    pub(crate) fn check_positions(source: &dyn Source, sizes: &[usize]) {
        for split in source.splits().unwrap() {
            let whole = rest(source, &split, None, 1000);
            let mut seen = Vec::new();
            let mut reader = source.open(&split, None).unwrap();
            for size in sizes.iter().cycle() {
                let at = reader.position();
                assert_eq!(rest(source, &split, Some(&at), 3), whole[seen.len()..], "{at:?}");
                reader = source.open(&split, Some(&at)).unwrap();
                assert_eq!(reader.position(), at);
                let Some(more) = some(reader.as_mut(), *size) else { break };
                seen.extend(more);
            }
            assert_eq!(seen, whole);
            // The end is a position, too.
            assert_eq!(rest(source, &split, Some(&reader.position()), 3), []);
            if let Some(size) = split.size {
                assert_eq!(reader.done(), size);
            }
        }
    }
}
