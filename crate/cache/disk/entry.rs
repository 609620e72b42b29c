//! The format of a file in the cache, and the key that it is stored under.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
};

use blake3::Hash;

/// The first bytes of a file. [`FORMAT`], the key, the length of the artifact, its hash and the artifact follow.
const MAGIC: [u8; 8] = *b"SBXHARTF";

/// The version of the file format. It is part of each key too, so that two versions of this crate do not overwrite
/// each other's files.
const FORMAT: u32 = 1;

/// The bytes of the header in front of the hash.
const PREFIX: usize = MAGIC.len() + size_of::<u32>() + blake3::OUT_LEN + size_of::<u64>();

pub const HEADER: usize = PREFIX + blake3::OUT_LEN;

/// Far more than any compiled module needs. Longer files are not read.
pub const MAX_ARTIFACT: u64 = 1 << 30;

/// The hash of everything an artifact depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArtifactKey(pub(super) Hash);

impl ArtifactKey {
    /// The key for these parts in this order: the hash of the binary, the engine and its version, the compiler's
    /// settings, the CPU's features, the version of the code that this crate adds to guests. Another list of parts has
    /// another key.
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&FORMAT.to_le_bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self(hasher.finalize())
    }

    pub fn as_bytes(&self) -> &[u8; blake3::OUT_LEN] {
        self.0.as_bytes()
    }
}

/// The header without its hash.
pub fn prefix(key: &ArtifactKey, length: u64) -> [u8; PREFIX] {
    let mut prefix = [0; PREFIX];
    let mut rest = &mut prefix[..];
    for field in [&MAGIC[..], &FORMAT.to_le_bytes(), key.0.as_bytes(), &length.to_le_bytes()] {
        let (place, after) = rest.split_at_mut(field.len());
        place.copy_from_slice(field);
        rest = after;
    }
    prefix
}

/// The header of the file for an artifact.
pub fn header(key: &ArtifactKey, artifact: &[u8]) -> io::Result<[u8; HEADER]> {
    let length = artifact.len() as u64;
    if length > MAX_ARTIFACT {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("an artifact of {length} bytes is too long")));
    }
    let mut header = [0; HEADER];
    header[..PREFIX].copy_from_slice(&prefix(key, length));
    header[PREFIX..].copy_from_slice(blake3::hash(artifact).as_bytes());
    Ok(header)
}

pub fn damaged() -> io::Error {
    ErrorKind::InvalidData.into()
}

/// Reads the artifact from a file of `bytes` bytes. Memory is allocated only once the header says the same length.
pub fn read(file: &mut File, bytes: u64, key: &ArtifactKey) -> io::Result<Vec<u8>> {
    let length = bytes.checked_sub(HEADER as u64).filter(|length| *length <= MAX_ARTIFACT).ok_or_else(damaged)?;
    let mut header = [0; HEADER];
    file.read_exact(&mut header)?;
    let (start, hash) = header.split_at(PREFIX);
    if start != prefix(key, length) {
        return Err(damaged());
    }
    let mut artifact = Vec::new();
    artifact.try_reserve_exact(length as usize)?;
    file.take(length).read_to_end(&mut artifact)?;
    if artifact.len() as u64 != length || blake3::hash(&artifact).as_bytes() != hash {
        return Err(damaged());
    }
    Ok(artifact)
}
