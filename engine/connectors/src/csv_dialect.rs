//! How a CSV file is written: what the source and the sink have in common.

use wasmill_runtime::connector::ConnectorError;
use wasmill_runtime::value::Options;

use crate::options::{character, wrong, wrong_at};

#[derive(Debug, Clone)]
pub(crate) struct Dialect {
    pub header: bool,
    pub delimiter: u8,
    pub quote: u8,
    /// What null is written as, without quotes.
    pub null: String,
}

impl Dialect {
    /// The options `header` (default `true`), `delimiter` (`,`), `quote` (`"`) and `null-literal` (empty).
    pub(crate) fn new(options: &mut Options) -> Result<Dialect, ConnectorError> {
        let (quote_at, null_at) = (options.at("quote"), options.at("null-literal"));
        let dialect = Dialect {
            header: options.boolean("header").map_err(wrong)?.unwrap_or(true),
            delimiter: character(options, "delimiter")?.unwrap_or(b','),
            quote: character(options, "quote")?.unwrap_or(b'"'),
            null: options.string("null-literal").map_err(wrong)?.unwrap_or_default(),
        };
        if dialect.quote == dialect.delimiter {
            return Err(wrong_at(quote_at, "quote", "is the delimiter too: give another character for one of them"));
        }
        if dialect.null.bytes().any(|byte| dialect.is_special(byte)) {
            let message = format!("is {:?}; a text without delimiter, quote and line end is wanted", dialect.null);
            return Err(wrong_at(null_at, "null-literal", message));
        }
        Ok(dialect)
    }

    /// Does a field with this byte need quotes?
    pub(crate) fn is_special(&self, byte: u8) -> bool {
        byte == self.delimiter || byte == self.quote || matches!(byte, b'\n' | b'\r')
    }
}
