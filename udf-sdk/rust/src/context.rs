//! What a function may know of its surroundings.

use std::fmt::Display;

use crate::data_type::Field;
use crate::frame::Slots;
use crate::value::{FromColumn, Reader, ToColumn};

/// What `open` may know: where the function runs, its parameters, its resources.
pub struct OpenContext<'c> {
    pub(crate) function: &'c str,
    pub(crate) job: &'c str,
    pub(crate) operator: &'c str,
    pub(crate) subtask: u32,
    pub(crate) parallelism: u32,
    pub(crate) parameters: &'c [(String, String)],
    pub(crate) resources: &'c [(String, Vec<u8>)],
}

impl<'c> OpenContext<'c> {
    /// The job's name.
    pub fn job(&self) -> &'c str {
        self.job
    }

    /// The name of the operator that this function is part of.
    pub fn operator(&self) -> &'c str {
        self.operator
    }

    /// Which of the operator's parallel instances this is, from 0.
    pub fn subtask(&self) -> u32 {
        self.subtask
    }

    /// How many of them there are.
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// A setting of the job for this use of the function.
    ///
    /// # Errors
    /// The job sets no such parameter.
    pub fn parameter(&self, name: &str) -> crate::Result<&'c str> {
        match self.parameter_or_none(name) {
            Some(value) => Ok(value),
            None => Err(self.unknown(
                "parameter",
                name,
                self.parameters.iter().map(|(name, _)| name.as_str()),
                "set it where the job uses the function",
            )),
        }
    }

    /// A setting, if the job sets it.
    pub fn parameter_or_none(&self, name: &str) -> Option<&'c str> {
        self.parameters.iter().find(|(had, _)| had == name).map(|(_, value)| value.as_str())
    }

    /// The bytes of a file that the job grants.
    ///
    /// # Errors
    /// The job grants no such file.
    pub fn resource(&self, name: &str) -> crate::Result<&'c [u8]> {
        match self.resources.iter().find(|(had, _)| had == name) {
            Some((_, content)) => Ok(content),
            None => Err(self.unknown(
                "resource",
                name,
                self.resources.iter().map(|(name, _)| name.as_str()),
                "grant it under the UDF's `resources`",
            )),
        }
    }

    /// The text of a file that the job grants.
    ///
    /// # Errors
    /// The job grants no such file, or it is not UTF-8.
    pub fn resource_text(&self, name: &str) -> crate::Result<&'c str> {
        std::str::from_utf8(self.resource(name)?)
            .map_err(|error| format!("resource `{name}` is not UTF-8 from byte {} on", error.valid_up_to()).into())
    }

    fn unknown<'n>(&self, what: &str, name: &str, had: impl Iterator<Item = &'n str>, then: &str) -> crate::Error {
        let had: Vec<&str> = had.collect();
        let had = if had.is_empty() { "it has none".to_owned() } else { format!("it has {}", had.join(", ")) };
        format!("`{}` asks for {what} `{name}`, but {had}: {then}", self.function).into()
    }
}

/// How a row changes the table that a stream describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowKind {
    /// +I
    #[default]
    Insert = 0,
    /// −U
    UpdateBefore = 1,
    /// +U
    UpdateAfter = 2,
    /// −D
    Delete = 3,
}

impl RowKind {
    pub(crate) fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Insert,
            1 => Self::UpdateBefore,
            2 => Self::UpdateAfter,
            3 => Self::Delete,
            other => panic!("a row of a bundle has kind {other}; kinds are 0 to 3"),
        }
    }
}

/// What a process function may know of the row that it is called with, and where its output goes.
pub struct Context<'b, Out: ToColumn> {
    pub(crate) out: &'b mut Out::Writer,
    pub(crate) sources: &'b mut Vec<[u8; 4]>,
    pub(crate) row: u32,
    pub(crate) key: Option<usize>,
    pub(crate) keys: usize,
    pub(crate) key_fields: &'b [Field],
    pub(crate) key_slots: &'b Slots<'b>,
    pub(crate) event_time: Option<i64>,
    pub(crate) row_kind: RowKind,
    pub(crate) watermark: i64,
    pub(crate) processing_time: i64,
    pub(crate) random: &'b mut u64,
}

impl<Out: ToColumn> Context<'_, Out> {
    /// Gives a row out.
    #[inline]
    pub fn emit(&mut self, row: Out) {
        row.push_to(self.out);
        self.sources.push(self.row.to_le_bytes());
    }

    /// The row's event time in milliseconds, if it has one.
    pub fn event_time(&self) -> Option<i64> {
        self.event_time
    }

    /// How the row changes its table.
    pub fn row_kind(&self) -> RowKind {
        self.row_kind
    }

    /// No row with an earlier event time (milliseconds) is expected. `None` = no watermark yet.
    pub fn watermark(&self) -> Option<i64> {
        (self.watermark != i64::MIN).then_some(self.watermark)
    }

    /// The only clock: milliseconds, the same for all rows of a bundle, and the same again in a replay.
    pub fn processing_time(&self) -> i64 {
        self.processing_time
    }

    /// The next of a sequence of random numbers that a replay repeats (SplitMix64 of the bundle's seed).
    pub fn random(&mut self) -> u64 {
        *self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*self.random ^ (*self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Field number `field` of the current key; `K` is its type, `Option<…>` if it is nullable.
    ///
    /// # Errors
    /// The operator is not keyed, the key has fewer fields, or the field has another type.
    pub fn key<'k, K: FromColumn<'k>>(&'k self, field: usize) -> crate::Result<K> {
        let Some(key) = self.key else {
            return Err("the operator is not keyed: give it a `key`".into());
        };
        let Some(declared) = self.key_fields.get(field) else {
            return Err(format!("the key has {} fields, field {field} was asked for", self.key_fields.len()).into());
        };
        let (asked, has) = (K::data_type(), &declared.data_type);
        if asked.shape != has.shape {
            return Err(format!("key field `{}` is {has}, {asked} was asked for", declared.name).into());
        }
        let mut slots: Slots<'k> = self.key_slots.clone();
        slots.skip(self.key_fields[..field].iter().map(|field| field.data_type.slots()).sum())?;
        let reader = K::open(&mut slots, self.keys)?;
        if !K::NULLABLE && reader.is_null(key) {
            return Err(format!("key field `{}` is null: ask for Option<…>", declared.name).into());
        }
        // SAFETY: key indices were checked to be less than `keys`.
        unsafe { K::get(&reader, key) }
            .map_err(|null| format!("key field `{}` has a null {}", declared.name, null.field.unwrap_or("")).into())
    }
}

/// The text of an error that goes with a row.
pub fn error_text(error: impl Display) -> String {
    error.to_string()
}
