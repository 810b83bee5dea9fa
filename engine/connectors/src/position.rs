//! Where a reader stopped, as a checkpoint keeps it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasmill_runtime::connector::{ConnectorError, Position};

/// A place between two rows of a text file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub byte: u64,
    /// Lines that end before it.
    pub line: u64,
}

/// The position of a reader of a text file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextPosition {
    /// Rows before it, rejected ones among them.
    pub row: u64,
    pub byte: u64,
    pub line: u64,
    /// The size that the file had: it may grow, but what has been read of a file that shrank is not in it any more.
    pub file_bytes: u64,
}

impl TextPosition {
    pub(crate) fn mark(&self) -> Mark {
        Mark { byte: self.byte, line: self.line }
    }
}

/// The text of a position.
pub(crate) fn write(position: &impl Serialize) -> Position {
    Position(serde_json::to_string(position).expect("numbers can be written as JSON"))
}

/// What `position` says; `name` is that of the split, for messages.
pub(crate) fn read<T: DeserializeOwned>(position: &Position, name: &str) -> Result<T, ConnectorError> {
    serde_json::from_str(&position.0).map_err(|error| {
        let message = format!(
            "{name}: the checkpoint has the position {}, which is none of this kind of source: has the job got another source \
             since? {START_ANEW}",
            position.0
        );
        ConnectorError::unfit(message).caused_by(error)
    })
}

/// What to do about a checkpoint that does not fit the source any more.
pub(crate) const START_ANEW: &str = "Give back what the source was, or start the job without the checkpoint";

/// `name` has `now` of what `unit` names, and had more when the checkpoint was made.
pub(crate) fn shrunk(name: &str, position: &Position, now: u64, unit: &str, before: u64) -> ConnectorError {
    ConnectorError::unfit(format!(
        "{name} has {now} {unit}, and had at least {before} when the checkpoint was made (position {}): it was cut off or \
         replaced. {START_ANEW}",
        position.0
    ))
}
