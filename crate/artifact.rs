//! A compiled module as bytes, for users to store: the binary that it was compiled from, the machine
//! code, and a hash of everything that both depend on. The hash at the end detects damage, not forgery:
//! code loaded from such bytes is run without further checks.

use crate::{cache::disk::ArtifactKey, error::CompileError};

const MAGIC: [u8; 8] = *b"SBXHMODU";
/// The version of this layout.
const FORMAT: u32 = 1;
const HASH: usize = blake3::OUT_LEN;
/// Magic, format, key and the length of the binary.
const HEADER: usize = MAGIC.len() + 4 + HASH + 8;

/// Encodes a binary and its machine code. `key` covers everything that the machine code depends on
/// besides the binary.
pub fn encode(key: &ArtifactKey, wasm: &[u8], machine_code: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + wasm.len() + machine_code.len() + HASH);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&(wasm.len() as u64).to_le_bytes());
    bytes.extend_from_slice(wasm);
    bytes.extend_from_slice(machine_code);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// Decodes the binary and the machine code.
pub fn decode<'a>(key: &ArtifactKey, bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), CompileError> {
    let refused = |why: &str| CompileError::Refused(format!("the bytes are no module that can be loaded here: {why}"));
    let truncated = || refused("they are truncated");
    let (content, hash) = bytes.split_last_chunk::<HASH>().ok_or_else(truncated)?;
    let (magic, rest) = content.split_first_chunk().ok_or_else(truncated)?;
    if *magic != MAGIC {
        return Err(refused("they do not begin like one"));
    }
    if *blake3::hash(content).as_bytes() != *hash {
        return Err(refused("they are damaged"));
    }
    let (format, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
    if u32::from_le_bytes(*format) != FORMAT {
        return Err(refused("another version of this package made them"));
    }
    let (made_with, rest) = rest.split_first_chunk::<HASH>().ok_or_else(truncated)?;
    if made_with != key.as_bytes() {
        return Err(refused("they were made with other options, by another version, or on another kind of processor"));
    }
    let (length, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| truncated())?;
    rest.split_at_checked(length).ok_or_else(truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(options: &[u8]) -> ArtifactKey {
        ArtifactKey::new(&[options])
    }

    #[test]
    fn what_is_put_together_comes_apart_again() {
        let key = key(b"options");
        for (wasm, code) in [(&b"wasm"[..], &b"machine code"[..]), (b"", b""), (b"wasm", b"")] {
            let bytes = encode(&key, wasm, code);
            assert_eq!(decode(&key, &bytes).map_err(|error| error.to_string()), Ok((wasm, code)));
        }
    }

    #[test]
    fn damage_anywhere_is_found() {
        let key = key(b"options");
        let bytes = encode(&key, b"wasm", b"machine code");
        for length in 0..bytes.len() {
            assert!(decode(&key, &bytes[..length]).is_err(), "{length} bytes");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(&key, &damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_was_made_with_other_options_is_refused() {
        let bytes = encode(&key(b"options"), b"wasm", b"machine code");
        let error = decode(&key(b"others"), &bytes).expect_err("the key is another");
        assert!(error.to_string().contains("other options"), "{error}");
    }
}
