//! A folder of compiled artifacts that many processes use at once.
//!
//! An artifact is machine code: anyone who can write to the folder can run code as this process. The hash in a file
//! detects damage, not forgery. On Unix, owners and modes keep other users out; elsewhere the folder must be in a
//! private place. Nothing is evicted. Any file may be deleted at any time, which costs one compile.

mod entry;
mod permissions;

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

pub use self::entry::ArtifactKey;

const EXTENSION: &str = "artifact";

/// The start of a file's name while it is being written.
const TEMP_PREFIX: &str = ".sandbox-host-";

/// A temporary file that is older than this was left behind by a process that died.
const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// Why a folder cannot serve as a cache.
#[derive(Debug, Error)]
pub enum DiskCacheError {
    #[error("the cache folder {} cannot be created: {error}", folder.display())]
    Create { folder: PathBuf, error: io::Error },
    #[error("the cache folder {} cannot be written to: {error}", folder.display())]
    Write { folder: PathBuf, error: io::Error },
    #[error(
        "the cache folder {} is writable by every user (mode {mode:04o}), but what is in it is run as machine code",
        folder.display()
    )]
    WritableByAll { folder: PathBuf, mode: u32 },
    #[error(
        "the cache folder {} belongs to user {owner}, but what is in it is run as machine code by user {user}",
        folder.display()
    )]
    OtherOwner { folder: PathBuf, owner: u32, user: u32 },
}

/// The artifacts in one folder.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    user: permissions::User,
}

impl DiskCache {
    /// Opens the cache in this folder. A missing folder is created so that only this user can enter it.
    ///
    /// On Unix it must belong to this user or to root, and must not be writable by everyone, not even with the sticky
    /// bit. It may be writable by its group: files that belong to others, or that others may write to, are not loaded.
    /// Access control lists are not checked.
    pub fn open(folder: &Path) -> Result<Self, DiskCacheError> {
        let create = |error| DiskCacheError::Create { folder: folder.to_owned(), error };
        // The process may change its working directory later.
        let folder = &std::path::absolute(folder).map_err(create)?;
        permissions::create_folder(folder).map_err(create)?;

        let write = |error| DiskCacheError::Write { folder: folder.to_owned(), error };
        // A temporary file shows whether this process may write here, and as which user.
        let made = temp_file(folder).and_then(|file| file.as_file().metadata()).map_err(write)?;
        let user = permissions::User::of(&made);
        user.check_folder(folder, &fs::metadata(folder).map_err(write)?)?;

        remove_leftovers(folder);
        Ok(Self { folder: folder.to_owned(), user })
    }

    /// The artifact that was stored under this key, if it is here and intact. A damaged file is removed.
    ///
    /// Running it is as unsafe as running any machine code: it deserves as much trust as everyone who can write to the
    /// folder.
    pub fn load(&self, key: &ArtifactKey) -> Option<Vec<u8>> {
        let path = self.path(key);
        // Links are not followed, and opening a pipe would block.
        if !fs::symlink_metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut file = File::open(&path).ok()?;
        let metadata = file.metadata().ok()?;
        let artifact = if self.user.trusts_file(&metadata) {
            entry::read(&mut file, metadata.len(), key)
        } else {
            Err(entry::damaged())
        };
        if let Err(error) = &artifact
            && matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        {
            remove_if_still(&path, &metadata);
        }
        artifact.ok()
    }

    /// Stores an artifact under this key and replaces the previous one. A concurrent load gets either of the two.
    ///
    /// The file is not synced: if a power failure tears it, the hash shows the damage. On Windows this can fail while
    /// the old file is being read. After a failure, nothing was stored.
    pub fn store(&self, key: &ArtifactKey, artifact: &[u8]) -> io::Result<()> {
        let header = entry::header(key, artifact)?;
        let mut file = temp_file(&self.folder)?;
        file.write_all(&header)?;
        file.write_all(artifact)?;
        file.persist(self.path(key))?;
        Ok(())
    }

    fn path(&self, key: &ArtifactKey) -> PathBuf {
        self.folder.join(format!("{}.{EXTENSION}", key.0.to_hex()))
    }
}

/// A temporary file, which tempfile creates so that only this user may read and write it.
fn temp_file(folder: &Path) -> io::Result<NamedTempFile> {
    Builder::new().prefix(TEMP_PREFIX).tempfile_in(folder)
}

/// Removes the file that was opened as `opened`, unless another process has replaced it. If that happens just before
/// the removal, a good file is lost, which costs one compile.
fn remove_if_still(path: &Path, opened: &Metadata) {
    if fs::symlink_metadata(path).is_ok_and(|now| permissions::is_same_file(&now, opened)) {
        let _ = fs::remove_file(path);
    }
}

/// Removes the temporary files of processes that died while writing. A process that is still writing fails to store.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map_while(Result::ok) {
        if entry.file_name().as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes())
            && entry.metadata().is_ok_and(|metadata| metadata.is_file() && is_leftover(&metadata))
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_leftover(metadata: &Metadata) -> bool {
    metadata.modified().is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > LEFTOVER_AGE))
}

#[cfg(test)]
mod tests;
