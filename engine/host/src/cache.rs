//! Compiled components on disk.
//!
//! An entry is what wasmtime made of a component, followed by a footer of ours: the key it was made for, a checksum over all before it,
//! and a magic. (Wasmtime maps the file from its first byte, so ours comes last.) The key covers the component and everything that the
//! machine code depends on. An entry appears whole, by rename, or not at all; one that is torn, damaged or made for another key is
//! rebuilt. What is trusted is the directory: whoever can write into it can run code as this process, as with any program's cache.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;
use wasmtime::component::Component;

use crate::error::HostError;

const MAGIC: [u8; 8] = *b"WMCWASM1";
/// Files are read in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;
/// Key, checksum, magic.
const FOOTER_BYTES: usize = 32 + 8 + 8;

/// What an entry depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) [u8; 32]);

impl Key {
    /// `settings` stands for wasmtime's version, its settings, target and CPU.
    pub(crate) fn new(settings: &impl Hash, wasm: &[u8]) -> Self {
        let mut hasher = Self::begin(settings, wasm.len() as u64);
        hasher.update(wasm);
        Self(hasher.finalize().into())
    }

    /// As [`new`](Self::new), for a component that is not to be held in memory as a whole.
    pub(crate) fn of_file(settings: &impl Hash, path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = Self::begin(settings, file.metadata()?.len());
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self(hasher.finalize().into())),
                read => hasher.update(&buffer[..read]),
            }
        }
    }

    fn begin(settings: &impl Hash, bytes: u64) -> Sha256 {
        let mut hasher = ShaHasher(Sha256::new());
        settings.hash(&mut hasher);
        hasher.0.update(bytes.to_le_bytes());
        hasher.0
    }

    fn file_name(&self) -> String {
        let hex: String = self.0[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}.cwasm")
    }
}

/// Feeds what `Hash` says into SHA-256: unlike the standard hasher it stays the same across releases, and does not collide.
struct ShaHasher(Sha256);

impl Hasher for ShaHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
    }
}

/// The component, if the cache has it.
pub(crate) fn find(engine: &wasmtime::Engine, directory: &Path, key: Key) -> Option<Component> {
    read(engine, &directory.join(key.file_name()), key)
}

/// Takes the component from the cache, or compiles it with `compile` (which returns wasmtime's serialized form) and keeps it there.
pub(crate) fn load(
    engine: &wasmtime::Engine,
    directory: &Path,
    key: Key,
    compile: impl FnOnce() -> Result<Vec<u8>, HostError>,
) -> Result<Component, HostError> {
    if let Some(component) = find(engine, directory, key) {
        return Ok(component);
    }
    let path = directory.join(key.file_name());
    let compiled = compile()?;
    write(directory, &path, key, &compiled).map_err(|source| HostError::Cache {
        path: path.clone(),
        problem: source.to_string(),
        source,
    })?;
    if let Some(component) = read(engine, &path, key) {
        return Ok(component);
    }
    // The file was damaged in the moment since: what was just compiled is still good.
    // SAFETY: the bytes come from `precompile_component` of this very engine.
    unsafe { Component::deserialize(engine, &compiled) }
        .map_err(|error| HostError::Engine { during: "loading", problem: format!("{error:#}") })
}

/// A whole entry of this key, or nothing: what is missing or damaged is rebuilt all the same.
fn read(engine: &wasmtime::Engine, path: &Path, key: Key) -> Option<Component> {
    if !check(path, key).unwrap_or(false) {
        return None;
    }
    // SAFETY: the checksum says that the file is as it was written, and the magic and key that we wrote it, from what wasmtime
    // made with these very settings. Files in the directory are only ever replaced, never written to.
    unsafe { Component::deserialize_file(engine, path) }.ok()
}

fn check(path: &Path, key: Key) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len() as usize;
    let Some(content) = length.checked_sub(FOOTER_BYTES) else {
        return Ok(false);
    };
    let mut hasher = XxHash3_64::new();
    let mut buffer = vec![0; PIECE_BYTES.min(content)];
    let mut left = content;
    while left > 0 {
        let piece = left.min(buffer.len());
        file.read_exact(&mut buffer[..piece])?;
        hasher.write(&buffer[..piece]);
        left -= piece;
    }
    let mut footer = [0; FOOTER_BYTES];
    file.read_exact(&mut footer)?;
    Ok(footer == footer_of(key, hasher))
}

fn footer_of(key: Key, mut hasher: XxHash3_64) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[..32].copy_from_slice(&key.0);
    hasher.write(&key.0);
    footer[32..40].copy_from_slice(&hasher.finish().to_le_bytes());
    footer[40..].copy_from_slice(&MAGIC);
    footer
}

fn write(directory: &Path, path: &PathBuf, key: Key, compiled: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new().prefix(".compiling-").tempfile_in(directory)?;
    let mut hasher = XxHash3_64::new();
    hasher.write(compiled);
    file.write_all(compiled)?;
    file.write_all(&footer_of(key, hasher))?;
    file.as_file().sync_all()?;
    // On error the temporary file goes with the error.
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
