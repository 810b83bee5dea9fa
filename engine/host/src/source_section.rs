//! Files that travel inside a component, for the interpreter that it is: the custom section `wasmill:source`.
//!
//! A UDF in an interpreted language is the interpreter's component with one section behind it, so that one file is all there is
//! to it, and every such UDF shares the interpreter's compiled code. The section is the last of the file:
//!
//! ```text
//! 0x00, size (LEB128), 14, "wasmill:source",
//! then for each file: path length (u32), path (UTF-8), content length (u32), content
//! ```
//!
//! Numbers are little-endian. The first file is the program, the others are what it may import. Paths are relative, with `/`,
//! and distinct. Any change to this is a new name of the section.

use std::sync::Arc;

use crate::declare::SourceFile;

const NAME: &[u8] = b"wasmill:source";

/// Id, and the size of the magic number and version before the first section.
const CUSTOM_SECTION: u8 = 0;
const PREAMBLE_BYTES: usize = 8;

/// Why files cannot be put into a component or taken out of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceSectionError {
    /// The bytes are not a sequence of sections.
    #[error("the component is cut off or damaged at byte {at}: build it again")]
    Damaged {
        /// Where it stops making sense.
        at: usize,
    },
    /// The component has files already.
    #[error("the component has a section \"wasmill:source\" already: give the interpreter itself")]
    Twice,
    /// The section does not hold files.
    #[error("section \"wasmill:source\" is damaged: {problem}: build the component again")]
    Content {
        /// What is wrong.
        problem: &'static str,
    },
    /// All files together are too large for a section.
    #[error("the files have {bytes} bytes together, limit {}: leave some out", u32::MAX)]
    TooLarge {
        /// Their size.
        bytes: usize,
    },
}

/// The component `wasm`, whatever it is, with `files` behind it. At least one file, all paths distinct.
///
/// # Errors
/// [`SourceSectionError`].
pub fn append(wasm: &[u8], files: &[SourceFile]) -> Result<Vec<u8>, SourceSectionError> {
    if find(wasm)?.is_some() {
        return Err(SourceSectionError::Twice);
    }
    let mut content = Vec::new();
    for file in files {
        write_text(&mut content, file.path.as_bytes())?;
        write_text(&mut content, &file.content)?;
    }
    // What was written is read back by the same rules: nobody gets a file that does not load.
    read(&content)?;
    let size = 1 + NAME.len() + content.len();
    let size = u32::try_from(size).map_err(|_| SourceSectionError::TooLarge { bytes: content.len() })?;
    let mut all = wasm.to_vec();
    all.push(CUSTOM_SECTION);
    write_leb128(&mut all, size);
    all.push(NAME.len() as u8);
    all.extend_from_slice(NAME);
    all.extend_from_slice(&content);
    Ok(all)
}

/// The component without the section, and the files that were in it; none where it has no such section.
///
/// # Errors
/// [`SourceSectionError::Damaged`] or [`SourceSectionError::Content`].
pub fn split(wasm: &[u8]) -> Result<(&[u8], Vec<SourceFile>), SourceSectionError> {
    match find(wasm)? {
        None => Ok((wasm, Vec::new())),
        Some((start, content)) => Ok((&wasm[..start], read(content)?)),
    }
}

/// Where the section begins, and what is in it. Only the last section can be it.
fn find(wasm: &[u8]) -> Result<Option<(usize, &[u8])>, SourceSectionError> {
    let mut at = PREAMBLE_BYTES;
    while at < wasm.len() {
        let damaged = SourceSectionError::Damaged { at };
        let (size, content) = read_leb128(wasm, at + 1).ok_or(damaged.clone())?;
        let end = content.checked_add(size).filter(|&end| end <= wasm.len()).ok_or(damaged)?;
        let section = &wasm[content..end];
        let is_ours = wasm[at] == CUSTOM_SECTION
            && section.first() == Some(&(NAME.len() as u8))
            && section[1..].starts_with(NAME);
        if is_ours {
            if end < wasm.len() {
                return Err(SourceSectionError::Content { problem: "another section follows it" });
            }
            return Ok(Some((at, &section[1 + NAME.len()..])));
        }
        at = end;
    }
    Ok(None)
}

fn read(content: &[u8]) -> Result<Vec<SourceFile>, SourceSectionError> {
    let wrong = |problem| SourceSectionError::Content { problem };
    let mut files: Vec<SourceFile> = Vec::new();
    let mut paths = std::collections::HashSet::new();
    let mut rest = content;
    while !rest.is_empty() {
        let path = take(&mut rest).ok_or(wrong("a path is cut off"))?;
        let path = std::str::from_utf8(path).map_err(|_| wrong("a path is not UTF-8"))?;
        if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong("a path is not relative"));
        }
        if !paths.insert(path) {
            return Err(wrong("a path stands twice"));
        }
        let content = take(&mut rest).ok_or(wrong("a file is cut off"))?;
        files.push(SourceFile { path: path.to_owned(), content: Arc::from(content) });
    }
    if files.is_empty() { Err(wrong("it has no file")) } else { Ok(files) }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (taken, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(taken)
}

fn write_text(to: &mut Vec<u8>, bytes: &[u8]) -> Result<(), SourceSectionError> {
    let length = u32::try_from(bytes.len()).map_err(|_| SourceSectionError::TooLarge { bytes: bytes.len() })?;
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(bytes);
    Ok(())
}

fn write_leb128(to: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The number at `at`, and where it ends.
fn read_leb128(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.get(at..)?.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, at + index + 1));
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An empty component, with a custom section of another name.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0\0\x05\x04name";

    fn file(path: &str, content: &[u8]) -> SourceFile {
        SourceFile { path: path.into(), content: content.into() }
    }

    #[test]
    fn files_come_back_and_the_component_is_as_it_was() {
        let files = vec![file("x.py", b"print(1)"), file("lib/y.py", &[0; 300])];
        let all = append(COMPONENT, &files).unwrap();
        assert_eq!(split(&all).unwrap(), (COMPONENT, files));
        assert_eq!(split(COMPONENT).unwrap(), (COMPONENT, vec![]));
        assert_eq!(append(&all, &[file("z.py", b"")]).unwrap_err(), SourceSectionError::Twice);
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let all = append(COMPONENT, &[file("a", b"bc")]).unwrap();
        assert_eq!(&all[COMPONENT.len()..], b"\0\x1a\x0ewasmill:source\x01\0\0\0a\x02\0\0\0bc");
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let all = append(COMPONENT, &[file("x.py", b"print(1)")]).unwrap();
        for end in COMPONENT.len() + 1..all.len() {
            assert!(matches!(split(&all[..end]), Err(SourceSectionError::Damaged { .. })), "{end}");
        }
        let mut more = all.clone();
        more.extend_from_slice(&COMPONENT[PREAMBLE_BYTES..]);
        assert_eq!(split(&more).unwrap_err(), SourceSectionError::Content { problem: "another section follows it" });
        for (files, problem) in [
            (vec![], "it has no file"),
            (vec![file("/etc/x", b"")], "a path is not relative"),
            (vec![file("../x", b"")], "a path is not relative"),
            (vec![file("", b"")], "a path is not relative"),
            (vec![file("x", b""), file("x", b"")], "a path stands twice"),
        ] {
            assert_eq!(append(COMPONENT, &files).unwrap_err(), SourceSectionError::Content { problem });
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..60) {
            let _ = split(&bytes);
            let mut all = append(COMPONENT, &[file("x.py", b"print(1)"), file("y", &bytes)]).unwrap();
            let at = all.len() - 1 - cut.min(all.len() - 1);
            all[at] ^= 0x55;
            let _ = split(&all);
        }
    }
}
