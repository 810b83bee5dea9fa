//! The records of a CSV file, with the line on which each begins and the fields that were quoted.
//!
//! As RFC 4180, but for a quote in the midst of a field without quotes, which stands for itself, and for blank lines, which are
//! skipped. (The parsers of the `csv` crates do not tell `""` from nothing, and take `"p"q` for `pq`.)

use std::io::Read;

use wasmill_runtime::connector::ConnectorError;

use crate::csv_dialect::Dialect;
use crate::files::cannot_read;
use crate::position::Mark;
use crate::rows::{RAW_BYTES_MAX, ROW_BYTES_MAX};

const INPUT_BYTES: usize = 64 << 10;

/// Fields of a row, at most.
const FIELDS_MAX: usize = 100_000;

pub(crate) struct Records {
    pub name: String,
    file: Box<dyn Read + Send>,
    delimiter: u8,
    quote: u8,
    input: Vec<u8>,
    /// What of `input` is read and not yet parsed.
    at: usize,
    end: usize,
    pub bytes_read: u64,
    /// Line of the current record, and that of the next byte.
    pub line: u64,
    next_line: u64,
    /// The current record as it stood in the file, its first few kB.
    pub raw: Vec<u8>,
    /// The texts of its fields, one after another.
    text: Vec<u8>,
    fields: Vec<Field>,
    fault: Option<Fault>,
}

struct Field {
    end: usize,
    quoted: bool,
}

/// What is wrong with the current record in itself.
enum Fault {
    /// The file ended inside a quote, so many lines below.
    Unclosed(u64),
    /// Something other than a delimiter or line end follows the quote that closes this field, counted from 1.
    AfterQuote(usize),
}

/// Where in a field the parser is.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// After a quote in a quoted field: it closed the field, or is the first of two that stand for one.
    Closed,
}

impl Records {
    /// `file` is read on from `from`.
    pub(crate) fn new(name: &str, file: Box<dyn Read + Send>, dialect: &Dialect, from: Mark) -> Records {
        Records {
            name: name.to_owned(),
            file,
            delimiter: dialect.delimiter,
            quote: dialect.quote,
            input: vec![0; INPUT_BYTES],
            at: 0,
            end: 0,
            bytes_read: from.byte,
            line: from.line + 1,
            next_line: from.line + 1,
            raw: Vec::new(),
            text: Vec::new(),
            fields: Vec::new(),
            fault: None,
        }
    }

    /// Reads more input where there is none left; false at the end of the file.
    fn fill(&mut self) -> Result<bool, ConnectorError> {
        while self.at == self.end {
            match self.file.read(&mut self.input) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    let marked = self.bytes_read == 0 && self.input[..read].starts_with(b"\xef\xbb\xbf");
                    (self.at, self.end) = (if marked { 3 } else { 0 }, read);
                    self.bytes_read += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cannot_read(&self.name, error)),
            }
        }
        Ok(true)
    }

    fn skip_blank_lines(&mut self) -> Result<bool, ConnectorError> {
        while self.fill()? {
            match self.input[self.at] {
                b'\n' => self.next_line += 1,
                b'\r' => {}
                _ => return Ok(true),
            }
            self.at += 1;
        }
        Ok(false)
    }

    /// Goes to the next record; false at the end of the file.
    pub(crate) fn next(&mut self) -> Result<bool, ConnectorError> {
        self.raw.clear();
        self.text.clear();
        self.fields.clear();
        self.fault = None;
        if !self.skip_blank_lines()? {
            return Ok(false);
        }
        self.line = self.next_line;
        let mut state = State::Start;
        loop {
            if !self.fill()? {
                if state == State::Quoted {
                    self.fault = Some(Fault::Unclosed(self.next_line - self.line));
                }
                self.fields
                    .push(Field { end: self.text.len(), quoted: matches!(state, State::Quoted | State::Closed) });
                break;
            }
            let from = self.at;
            let ended = self.scan(&mut state);
            let read = &self.input[from..self.at];
            self.next_line += memchr::memchr_iter(b'\n', read).count() as u64;
            let room = RAW_BYTES_MAX.saturating_sub(self.raw.len()).min(read.len());
            self.raw.extend_from_slice(&read[..room]);
            self.bounded(self.text.len(), ROW_BYTES_MAX, "bytes")?;
            self.bounded(self.fields.len(), FIELDS_MAX, "fields")?;
            if ended {
                break;
            }
        }
        while self.raw.ends_with(b"\n") || self.raw.ends_with(b"\r") {
            self.raw.pop();
        }
        Ok(true)
    }

    /// Parses what is there of the record; true at its end.
    fn scan(&mut self, state: &mut State) -> bool {
        while self.at < self.end {
            let rest = &self.input[self.at..self.end];
            match state {
                State::Start if rest[0] == self.quote => {
                    *state = State::Quoted;
                    self.at += 1;
                }
                State::Start => *state = State::Plain,
                State::Plain => {
                    let Some(length) = memchr::memchr3(self.delimiter, b'\n', b'\r', rest) else {
                        self.text.extend_from_slice(rest);
                        self.at = self.end;
                        return false;
                    };
                    self.text.extend_from_slice(&rest[..length]);
                    let byte = rest[length];
                    self.at += length + 1;
                    if self.end_field(byte, false, state) {
                        return true;
                    }
                }
                State::Quoted => {
                    let length = memchr::memchr(self.quote, rest);
                    self.text.extend_from_slice(&rest[..length.unwrap_or(rest.len())]);
                    self.at += length.map_or(rest.len(), |length| length + 1);
                    if length.is_some() {
                        *state = State::Closed;
                    }
                }
                State::Closed => match rest[0] {
                    byte if byte == self.quote => {
                        self.text.push(byte);
                        *state = State::Quoted;
                        self.at += 1;
                    }
                    byte if byte == self.delimiter || matches!(byte, b'\n' | b'\r') => {
                        self.at += 1;
                        if self.end_field(byte, true, state) {
                            return true;
                        }
                    }
                    _ => {
                        self.fault.get_or_insert(Fault::AfterQuote(self.fields.len() + 1));
                        *state = State::Plain;
                    }
                },
            }
        }
        false
    }

    /// A field ended at `byte`; true where the record did.
    fn end_field(&mut self, byte: u8, quoted: bool, state: &mut State) -> bool {
        self.fields.push(Field { end: self.text.len(), quoted });
        *state = State::Start;
        byte != self.delimiter
    }

    fn bounded(&self, size: usize, limit: usize, what: &str) -> Result<(), ConnectorError> {
        if size <= limit {
            return Ok(());
        }
        let message = format!("{}:{}: a row of more than {limit} {what}: is a quote not closed?", self.name, self.line);
        Err(ConnectorError::new(message))
    }

    /// Behind the current record.
    pub(crate) fn mark(&self) -> Mark {
        Mark { byte: self.bytes_read - (self.end - self.at) as u64, line: self.next_line - 1 }
    }

    /// Number of fields.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Why the current record is none.
    pub(crate) fn fault(&self) -> Result<(), String> {
        match self.fault {
            None => Ok(()),
            Some(Fault::Unclosed(lines)) => {
                Err(format!("a quote that opens in this row is never closed: the {lines} lines below are in it too"))
            }
            Some(Fault::AfterQuote(field)) => {
                Err(format!("field {field} goes on after its closing quote: a quote inside quotes is written twice"))
            }
        }
    }

    /// Did the field of this number, from 0, stand in quotes?
    pub(crate) fn quoted(&self, index: usize) -> bool {
        self.fields[index].quoted
    }

    pub(crate) fn text(&self, index: usize) -> Result<&str, String> {
        let start = if index == 0 { 0 } else { self.fields[index - 1].end };
        let bytes = &self.text[start..self.fields[index].end];
        std::str::from_utf8(bytes).map_err(|_| "got bytes that are not UTF-8".to_owned())
    }

    pub(crate) fn texts(&self) -> Result<Vec<&str>, String> {
        self.fault()?;
        (0..self.len()).map(|index| self.text(index)).collect()
    }
}
