//! One value as bytes (wit/README.md, "Values"): how state is stored that does not travel with the bundle.

use super::NonNull;

/// A value that can be stored.
pub trait Codec: Sized {
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes the value off the front of `bytes`.
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError>;
}

/// Why bytes are not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes end inside the value.
    Short { wanted: usize, got: usize },
    /// Bytes are left behind the value.
    Long { left: usize },
    /// A byte that must be 0 or 1 is not.
    Invalid { what: &'static str, got: u32 },
    /// A text is not UTF-8 from here on.
    Utf8 { at: usize },
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short { wanted, got } => write!(f, "a stored value ends early: {wanted} bytes wanted, {got} left"),
            Self::Long { left } => write!(f, "{left} bytes behind a stored value"),
            Self::Invalid { what, got } => write!(f, "a stored value has {got} for a {what}"),
            Self::Utf8 { at } => write!(f, "a stored text is not UTF-8 from byte {at} on"),
        }
    }
}

impl std::error::Error for CodecError {}

impl CodecError {
    /// Takes `W` bytes off the front.
    pub(crate) fn fixed<const W: usize>(bytes: &mut &[u8]) -> Result<[u8; W], Self> {
        match bytes.split_first_chunk::<W>() {
            Some((first, rest)) => {
                *bytes = rest;
                Ok(*first)
            }
            None => Err(Self::Short { wanted: W, got: bytes.len() }),
        }
    }

    pub(crate) fn count(bytes: &mut &[u8]) -> Result<usize, Self> {
        Self::fixed(bytes).map(|count| u32::from_le_bytes(count) as usize)
    }

    pub(crate) fn put_count(count: usize, out: &mut Vec<u8>) {
        let count = u32::try_from(count).expect("a value in a wasm guest has fewer than 2^32 elements");
        out.extend_from_slice(&count.to_le_bytes());
    }

    pub(crate) fn bytes<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], Self> {
        let wanted = Self::count(bytes)?;
        match bytes.split_at_checked(wanted) {
            Some((first, rest)) => {
                *bytes = rest;
                Ok(first)
            }
            None => Err(Self::Short { wanted, got: bytes.len() }),
        }
    }

    pub(crate) fn put_bytes(value: &[u8], out: &mut Vec<u8>) {
        Self::put_count(value.len(), out);
        out.extend_from_slice(value);
    }
}

/// Reads a value that takes all of `bytes`.
pub fn decode_value<T: Codec>(mut bytes: &[u8]) -> Result<T, CodecError> {
    let value = T::decode(&mut bytes)?;
    if bytes.is_empty() { Ok(value) } else { Err(CodecError::Long { left: bytes.len() }) }
}

impl<T: NonNull + Codec> Codec for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        match CodecError::fixed(bytes)? {
            [0] => Ok(None),
            [1] => T::decode(bytes).map(Some),
            [other] => Err(CodecError::Invalid { what: "null flag", got: u32::from(other) }),
        }
    }
}
