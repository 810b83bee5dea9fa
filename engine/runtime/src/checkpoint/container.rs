//! The envelope of every file of a checkpoint: what it is, of which version, whole or not.
//!
//! | offset | bytes | |
//! |---:|---:|---|
//! | 0 | 8 | `WASMILLC` |
//! | 8 | 2 | version of the format, [`VERSION`] |
//! | 10 | 2 | what the body is, [`Content`] |
//! | 12 | 4 | 0 |
//! | 16 | 8 | n, bytes of the body |
//! | 24 | n | the body |
//! | 24 + n | 8 | XXH3 (64 bit, seed 0) of all bytes before |
//!
//! Numbers are little-endian. A version is read for ever: a file of each lies in `tests/snapshots`.

use arrow::buffer::Buffer;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"WASMILLC";

/// What this program writes, and the newest that it reads.
pub const VERSION: u16 = 1;

const HEADER_BYTES: usize = 24;
/// At the end of the header.
const LENGTH_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 8;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// JSON, see [`Manifest`](super::manifest::Manifest).
    Manifest = 1,
    /// State by key, see [`keyed`](super::keyed).
    Keyed = 2,
    /// Rows on their way, see [`rows`](super::rows).
    Rows = 3,
}

impl Content {
    fn name(number: u16) -> &'static str {
        match number {
            1 => "a manifest",
            2 => "state by key",
            3 => "rows on their way",
            _ => "something else",
        }
    }
}

/// Why bytes are no file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    #[error("it is no file of a checkpoint: it does not begin with WASMILLC")]
    Foreign,
    #[error("it has version {got} of the format, and this program knows them up to {max}: use a newer Wasmill", max = VERSION)]
    Newer { got: u16 },
    #[error("it is damaged: its header has {what}")]
    Header { what: &'static str },
    #[error("it is cut off: {got} bytes, {want} expected")]
    Cut { got: usize, want: u64 },
    #[error("it is damaged: {extra} bytes follow its end")]
    Longer { extra: u64 },
    #[error("it is damaged: its checksum is {got:016x}, {want:016x} expected")]
    Checksum { got: u64, want: u64 },
    #[error("it is {got}, where {want} is expected")]
    Other { got: &'static str, want: &'static str },
}

/// The body in its envelope.
pub fn seal(content: Content, body: &[u8]) -> Vec<u8> {
    let mut file = begin(content, body.len());
    file.extend_from_slice(body);
    end(file)
}

/// A file whose body, of about so many bytes, is written behind what is there; [`end`] makes it whole.
pub(crate) fn begin(content: Content, body_bytes: usize) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER_BYTES + body_bytes + CHECKSUM_BYTES);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&(content as u16).to_le_bytes());
    file.extend_from_slice(&[0; 4 + LENGTH_BYTES]);
    file
}

/// A file that was [begun](begin), in its envelope.
pub(crate) fn end(mut file: Vec<u8>) -> Vec<u8> {
    let length = (file.len() - HEADER_BYTES) as u64;
    file[HEADER_BYTES - LENGTH_BYTES..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    let checksum = xxh3_64(&file);
    file.extend_from_slice(&checksum.to_le_bytes());
    file
}

/// The body of a file that is whole and holds `content`.
///
/// # Errors
/// [`ContainerError`], never a panic: the bytes may be anything.
pub fn open(content: Content, file: &[u8]) -> Result<&[u8], ContainerError> {
    if !file.starts_with(&MAGIC[..file.len().min(MAGIC.len())]) || file.is_empty() {
        return Err(ContainerError::Foreign);
    }
    let Some(header) = file.first_chunk::<HEADER_BYTES>() else {
        return Err(ContainerError::Cut { got: file.len(), want: (HEADER_BYTES + CHECKSUM_BYTES) as u64 });
    };
    let version = u16::from_le_bytes([header[8], header[9]]);
    // Before anything else is believed: a newer format may have another layout.
    if version > VERSION {
        return Err(ContainerError::Newer { got: version });
    }
    let length = u64::from_le_bytes(header[16..].try_into().expect("the header has 24 bytes"));
    let want = length.saturating_add((HEADER_BYTES + CHECKSUM_BYTES) as u64);
    if (file.len() as u64) < want {
        return Err(ContainerError::Cut { got: file.len(), want });
    }
    if file.len() as u64 > want {
        return Err(ContainerError::Longer { extra: file.len() as u64 - want });
    }
    let (sealed, checksum) = file.split_at(file.len() - CHECKSUM_BYTES);
    let want = u64::from_le_bytes(checksum.try_into().expect("eight bytes were split off"));
    let got = xxh3_64(sealed);
    if got != want {
        return Err(ContainerError::Checksum { got, want });
    }
    // What is whole and was never written so is not ours.
    if version == 0 {
        return Err(ContainerError::Header { what: "version 0, which there is not" });
    }
    if header[12..16] != [0; 4] {
        return Err(ContainerError::Header { what: "something where this version has zeros" });
    }
    let kind = u16::from_le_bytes([header[10], header[11]]);
    if kind != content as u16 {
        return Err(ContainerError::Other { got: Content::name(kind), want: Content::name(content as u16) });
    }
    Ok(&sealed[HEADER_BYTES..])
}

/// As [`open`], without a copy.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_buffer(content: Content, file: &Buffer) -> Result<Buffer, ContainerError> {
    let body = open(content, file)?.len();
    Ok(file.slice_with_length(HEADER_BYTES, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is sealed comes back, and no file with a byte changed, missing or added is taken for whole.
        #[test]
        fn only_what_is_whole_is_read(body in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let file = seal(Content::Rows, &body);
            prop_assert_eq!(open(Content::Rows, &file).unwrap(), &body[..]);
            let mut flipped = file.clone();
            flipped[at.index(file.len())] ^= 1 << bit;
            prop_assert!(open(Content::Rows, &flipped).is_err());
            let cut = &file[..at.index(file.len())];
            prop_assert!(open(Content::Rows, cut).is_err());
            let longer = [&file[..], &[0]].concat();
            prop_assert_eq!(open(Content::Rows, &longer).unwrap_err(), ContainerError::Longer { extra: 1 });
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..100), magic in any::<bool>()) {
            let file = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            prop_assert!(open(Content::Manifest, &file).is_err());
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let file = seal(Content::Manifest, b"{}");
        assert_eq!(open(Content::Manifest, b"PK\x03\x04").unwrap_err(), ContainerError::Foreign);
        assert_eq!(open(Content::Manifest, b"").unwrap_err(), ContainerError::Foreign);
        assert_eq!(open(Content::Manifest, &file[..30]).unwrap_err(), ContainerError::Cut { got: 30, want: 34 });
        let mut newer = file.clone();
        newer[8] = 2;
        assert_eq!(open(Content::Manifest, &newer).unwrap_err(), ContainerError::Newer { got: 2 });
        for (at, byte) in [(8, 0), (15, 1)] {
            let mut odd = file.clone();
            odd[at] = byte;
            let end = odd.len() - CHECKSUM_BYTES;
            let checksum = xxh3_64(&odd[..end]).to_le_bytes();
            odd[end..].copy_from_slice(&checksum);
            assert!(matches!(open(Content::Manifest, &odd), Err(ContainerError::Header { .. })));
        }
        let message = open(Content::Keyed, &file).unwrap_err().to_string();
        assert_eq!(message, "it is a manifest, where state by key is expected");
    }
}
