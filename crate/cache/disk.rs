//! A folder of compiled artifacts that many processes use at once.
//!
//! An artifact is machine code: who can write to the folder runs code as this process. The hash in a file finds damage,
//! not forgery. Other users are kept out by owners and modes, on Unix; elsewhere the folder must be in a private place.
//! Nothing is evicted. Any file may be deleted at any time, which costs one compile.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use blake3::Hash;
use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

/// What a file starts with. Then come [`FORMAT`], the key, the length of the artifact, its hash, and the artifact.
const MAGIC: [u8; 8] = *b"SBXHARTF";

/// The version of the files. It is part of each key too, so that two versions of this crate do not replace each other's
/// files.
const FORMAT: u32 = 1;

/// What is known of a file before its artifact is: all of the header but the hash.
const PREFIX: usize = MAGIC.len() + size_of::<u32>() + blake3::OUT_LEN + size_of::<u64>();

const HEADER: usize = PREFIX + blake3::OUT_LEN;

/// Far more than any compiled module; a longer file is not read.
const MAX_ARTIFACT: u64 = 1 << 30;

const EXTENSION: &str = "artifact";

/// What a file is called while it is written.
const TEMP_PREFIX: &str = ".sandbox-host-";

/// When a file that is still called so was left by a process that is gone.
const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// Why a folder is no cache.
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

/// All that an artifact depends on, as one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArtifactKey(Hash);

impl ArtifactKey {
    /// The key of these parts in this order: the hash of the binary, the engine and its version, the settings of the
    /// compiler, the features of the CPU, the version of what this crate compiles into guests. No other list of parts
    /// has it.
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

/// The artifacts in one folder.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    user: platform::User,
}

impl DiskCache {
    /// Uses this folder, made if it is missing so that only this user can enter it.
    ///
    /// On Unix it must belong to this user or to root, and must not be writable by everyone, not even with the sticky
    /// bit. It may be writable by its group: files that belong to others, or that others may write to, are not loaded.
    /// Access control lists are not looked at.
    pub fn open(folder: &Path) -> Result<Self, DiskCacheError> {
        let create = |error| DiskCacheError::Create { folder: folder.to_owned(), error };
        // The process may change its working directory later.
        let folder = &std::path::absolute(folder).map_err(create)?;
        platform::create_folder(folder).map_err(create)?;

        let write = |error| DiskCacheError::Write { folder: folder.to_owned(), error };
        // What is made in the folder shows both whether that is allowed, and who this process is.
        let made = temp_file(folder).and_then(|file| file.as_file().metadata()).map_err(write)?;
        let user = platform::User::of(&made);
        user.check_folder(folder, &fs::metadata(folder).map_err(write)?)?;

        remove_leftovers(folder);
        Ok(Self { folder: folder.to_owned(), user })
    }

    /// The artifact that was stored under this key, if it is here and whole. A file that is anything else is removed.
    ///
    /// To run it is as unsafe as to run any machine code: it is only as good as those who can write to the folder.
    pub fn load(&self, key: &ArtifactKey) -> Option<Vec<u8>> {
        let path = self.path(key);
        // Not what a link leads to. Opening a pipe would block.
        if !fs::symlink_metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut file = File::open(&path).ok()?;
        let metadata = file.metadata().ok()?;
        let artifact =
            if self.user.trusts_file(&metadata) { read(&mut file, metadata.len(), key) } else { Err(damaged()) };
        if let Err(error) = &artifact
            && matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        {
            remove_if_still(&path, &metadata);
        }
        artifact.ok()
    }

    /// Puts an artifact under this key, in place of what is there. Who loads it meanwhile gets one or the other.
    ///
    /// It is not forced to the disk: if a power failure tears the file, its hash shows that. On Windows this can fail
    /// while the old file is being read. A failure only means that nothing was stored.
    pub fn store(&self, key: &ArtifactKey, artifact: &[u8]) -> io::Result<()> {
        let length = artifact.len() as u64;
        if length > MAX_ARTIFACT {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("an artifact of {length} bytes is too long")));
        }
        let mut header = [0; HEADER];
        header[..PREFIX].copy_from_slice(&prefix(key, length));
        header[PREFIX..].copy_from_slice(blake3::hash(artifact).as_bytes());

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

/// Only this user may read and write it, as tempfile makes it.
fn temp_file(folder: &Path) -> io::Result<NamedTempFile> {
    Builder::new().prefix(TEMP_PREFIX).tempfile_in(folder)
}

fn prefix(key: &ArtifactKey, length: u64) -> [u8; PREFIX] {
    let mut prefix = [0; PREFIX];
    let mut rest = &mut prefix[..];
    for field in [&MAGIC[..], &FORMAT.to_le_bytes(), key.0.as_bytes(), &length.to_le_bytes()] {
        let (place, after) = rest.split_at_mut(field.len());
        place.copy_from_slice(field);
        rest = after;
    }
    prefix
}

fn damaged() -> io::Error {
    ErrorKind::InvalidData.into()
}

/// The artifact in a file of so many bytes. No memory is taken before the file is known to be that long.
fn read(file: &mut File, bytes: u64, key: &ArtifactKey) -> io::Result<Vec<u8>> {
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

/// Removes the file that was opened as `opened`, unless another process has put one in its place. If it does so just
/// before the removal, a good file is lost, which costs one compile.
fn remove_if_still(path: &Path, opened: &Metadata) {
    if fs::symlink_metadata(path).is_ok_and(|now| platform::is_same_file(&now, opened)) {
        let _ = fs::remove_file(path);
    }
}

/// Removes what was left by processes that died while they wrote. One that still writes then only fails to store.
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

#[cfg(unix)]
mod platform {
    use std::{
        fs::{DirBuilder, Metadata},
        io,
        os::unix::fs::{DirBuilderExt, MetadataExt},
        path::Path,
    };

    use super::DiskCacheError;

    const ROOT: u32 = 0;

    pub fn create_folder(folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    /// Whether both are one file. While one of them is open, no other file can get its number.
    pub fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }

    /// Whom the files that this process makes belong to.
    #[derive(Debug)]
    pub struct User(u32);

    impl User {
        pub fn of(made: &Metadata) -> Self {
            Self(made.uid())
        }

        fn trusts(&self, owner: u32) -> bool {
            owner == self.0 || owner == ROOT
        }

        pub fn check_folder(&self, folder: &Path, metadata: &Metadata) -> Result<(), DiskCacheError> {
            let (folder, owner, mode) = (folder.to_owned(), metadata.uid(), metadata.mode() & 0o7777);
            if !self.trusts(owner) {
                Err(DiskCacheError::OtherOwner { folder, owner, user: self.0 })
            } else if mode & 0o002 != 0 {
                Err(DiskCacheError::WritableByAll { folder, mode })
            } else {
                Ok(())
            }
        }

        /// Whether nobody but this user and root can have written it.
        pub fn trusts_file(&self, metadata: &Metadata) -> bool {
            metadata.is_file() && self.trusts(metadata.uid()) && metadata.mode() & 0o022 == 0
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::{
        fs::{self, Metadata},
        io,
        path::Path,
    };

    use super::DiskCacheError;

    pub fn create_folder(folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    /// Whether both look like one file; std has no number for it.
    pub fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
        let look = |file: &Metadata| (file.len(), file.modified().ok(), file.created().ok());
        look(one) == look(other)
    }

    /// Who may write where is not known here.
    #[derive(Debug)]
    pub struct User;

    impl User {
        pub fn of(_made: &Metadata) -> Self {
            Self
        }

        pub fn check_folder(&self, _folder: &Path, _metadata: &Metadata) -> Result<(), DiskCacheError> {
            Ok(())
        }

        pub fn trusts_file(&self, metadata: &Metadata) -> bool {
            metadata.is_file()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread, time::SystemTime};

    use tempfile::TempDir;

    use super::*;

    fn cache() -> (TempDir, DiskCache) {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = DiskCache::open(folder.path()).expect("a cache");
        (folder, cache)
    }

    fn key(name: &str) -> ArtifactKey {
        ArtifactKey::new(&[name.as_bytes()])
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }

    /// Puts these bytes where the artifact of the key is. Other users cannot write to the file, whatever the umask.
    fn put(cache: &DiskCache, key: &ArtifactKey, bytes: &[u8]) {
        let mut file = temp_file(&cache.folder).expect("a file");
        file.write_all(bytes).expect("written");
        file.persist(cache.path(key)).expect("put there");
    }

    #[test]
    fn what_is_stored_is_loaded() {
        let (folder, cache) = cache();
        let key = key("module");
        assert_eq!(cache.load(&key), None);
        for artifact in [&b"code"[..], b"", b"other code", &vec![7; 1 << 20]] {
            cache.store(&key, artifact).expect("stored");
            assert_eq!(cache.load(&key).as_deref(), Some(artifact));
        }
        assert_eq!(names(folder.path()), [format!("{}.artifact", key.0.to_hex())]);
    }

    #[test]
    fn no_two_lists_of_parts_have_one_key() {
        let lists: [&[&[u8]]; 9] = [
            &[],
            &[b""],
            &[b"", b""],
            &[b"ab", b"c"],
            &[b"a", b"bc"],
            &[b"abc"],
            &[b"c", b"ab"],
            &[b"abc", b""],
            &[&[0; 8]],
        ];
        for (index, one) in lists.iter().enumerate() {
            for (other_index, other) in lists.iter().enumerate() {
                assert_eq!(ArtifactKey::new(one) == ArtifactKey::new(other), index == other_index);
            }
        }
    }

    #[test]
    fn each_damaged_file_is_removed_and_the_next_store_repairs_it() {
        let (_folder, cache) = cache();
        let key = key("module");
        cache.store(&key, b"machine code").expect("stored");
        let whole = fs::read(cache.path(&key)).expect("a file");

        let flipped = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        });
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        let foreign = [[&whole[..], b"more"].concat(), vec![0; whole.len()], b"not one of ours".to_vec()];
        for bytes in flipped.chain(cut).chain(foreign) {
            put(&cache, &key, &bytes);
            assert_eq!(cache.load(&key), None, "{bytes:?}");
            assert!(!cache.path(&key).exists(), "{bytes:?}");

            put(&cache, &key, &bytes);
            cache.store(&key, b"machine code").expect("stored");
            assert_eq!(cache.load(&key).as_deref(), Some(&b"machine code"[..]));
        }
    }

    #[test]
    fn a_file_under_the_key_of_another_is_removed() {
        let (_folder, cache) = cache();
        let (one, other) = (key("one"), key("other"));
        cache.store(&one, b"code").expect("stored");
        fs::copy(cache.path(&one), cache.path(&other)).expect("copied");
        assert_eq!(cache.load(&other), None);
        assert!(!cache.path(&other).exists());
        assert!(cache.load(&one).is_some());
    }

    #[test]
    fn absurd_lengths_take_no_memory() {
        let (_folder, cache) = cache();
        let key = key("module");
        for length in [MAX_ARTIFACT + 1, 1 << 40, u64::MAX] {
            put(&cache, &key, &prefix(&key, length));
            if length == 1 << 40 {
                // With holes the file is as long as it says, where the file system can do that.
                let file = File::options().write(true).open(cache.path(&key)).expect("a file");
                let _ = file.set_len(length + HEADER as u64);
            }
            assert_eq!(cache.load(&key), None);
            assert!(!cache.path(&key).exists());
        }
    }

    #[test]
    fn a_folder_in_place_of_a_file_is_nothing() {
        let (_folder, cache) = cache();
        let key = key("module");
        fs::create_dir(cache.path(&key)).expect("a folder");
        assert_eq!(cache.load(&key), None);
        assert!(cache.store(&key, b"code").is_err());
        assert_eq!(names(&cache.folder).len(), 1, "the temporary file is gone");
    }

    #[test]
    fn a_file_that_was_replaced_is_not_removed() {
        let (_folder, cache) = cache();
        let key = key("module");
        put(&cache, &key, b"damaged");
        let opened = fs::metadata(cache.path(&key)).expect("metadata");
        cache.store(&key, b"code").expect("stored");
        remove_if_still(&cache.path(&key), &opened);
        assert!(cache.load(&key).is_some());
    }

    #[test]
    fn many_threads_and_two_caches_share_a_folder() {
        const THREADS: usize = 8;
        let (folder, first) = cache();
        let second = DiskCache::open(folder.path()).expect("a cache");
        let artifact = |number: usize| vec![number as u8; 10_000 + number];
        let shared = key("shared");
        first.store(&shared, &artifact(0)).expect("stored");

        let barrier = Barrier::new(THREADS);
        thread::scope(|scope| {
            for number in 0..THREADS {
                let cache = [&first, &second][number % 2];
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    for round in 0..50 {
                        let own = key(&format!("{number} {round}"));
                        cache.store(&own, &artifact(number)).expect("stored");
                        assert_eq!(cache.load(&own), Some(artifact(number)));

                        let stored = cache.store(&shared, &artifact(number));
                        let loaded = cache.load(&shared);
                        // Windows does not replace a file that is being read, nor open one that is being replaced.
                        if cfg!(unix) {
                            stored.expect("stored");
                            assert!(loaded.is_some());
                        }
                        if let Some(loaded) = loaded {
                            assert_eq!(loaded, artifact(loaded[0].into()));
                        }
                    }
                });
            }
        });
        for number in 0..THREADS {
            assert_eq!(second.load(&key(&format!("{number} 49"))), Some(artifact(number)));
        }
        assert_eq!(names(folder.path()).len(), THREADS * 50 + 1, "no temporary file is left");
    }

    #[test]
    fn threads_that_find_damage_while_others_store_see_whole_artifacts() {
        let (_folder, cache) = cache();
        let key = key("module");
        thread::scope(|scope| {
            for number in 0..6 {
                let (cache, key) = (&cache, &key);
                scope.spawn(move || {
                    for _ in 0..200 {
                        match number {
                            0 => drop(fs::write(cache.path(key), b"damaged")),
                            1 | 2 => drop(cache.store(key, b"code")),
                            _ => assert!(cache.load(key).is_none_or(|artifact| artifact == b"code")),
                        }
                    }
                });
            }
        });
        cache.store(&key, b"code").expect("stored");
        assert!(cache.load(&key).is_some());
    }

    #[test]
    fn a_missing_folder_is_made() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("a/b");
        let cache = DiskCache::open(&folder).expect("a cache");
        cache.store(&key("module"), b"code").expect("stored");
        drop(cache);
        let cache = DiskCache::open(&folder).expect("a cache");
        assert!(cache.load(&key("module")).is_some());
    }

    #[test]
    fn a_folder_that_is_a_file_is_an_error_that_names_it() {
        let parent = tempfile::tempdir().expect("a folder");
        let file = parent.path().join("file");
        fs::write(&file, b"").expect("written");
        for folder in [file.clone(), file.join("below")] {
            let error = DiskCache::open(&folder).expect_err("no folder");
            assert!(matches!(error, DiskCacheError::Create { .. }), "{error}");
            assert!(error.to_string().contains(&folder.display().to_string()), "{error}");
        }
        assert!(matches!(DiskCache::open(Path::new("")), Err(DiskCacheError::Create { .. })));
    }

    #[test]
    fn a_folder_that_disappears_is_an_error_of_store() {
        let (folder, cache) = cache();
        folder.close().expect("removed");
        assert_eq!(cache.load(&key("module")), None);
        assert!(cache.store(&key("module"), b"code").is_err());
    }

    #[test]
    fn old_temporary_files_are_removed_and_nothing_else() {
        let (folder, cache) = cache();
        cache.store(&key("module"), b"code").expect("stored");
        let artifact = names(folder.path()).remove(0);
        let (now, old) = (SystemTime::now(), SystemTime::now() - LEFTOVER_AGE - Duration::from_secs(60));
        for (name, modified) in [
            (".sandbox-host-old", old),
            (".sandbox-host-new", now),
            (".sandbox-host-future", now + Duration::from_secs(9999)),
            ("another", old),
            (&artifact, old),
        ] {
            let file = File::options().append(true).create(true).open(folder.path().join(name)).expect("a file");
            file.set_modified(modified).expect("modified");
        }
        fs::create_dir(folder.path().join(".sandbox-host-folder")).expect("a folder");
        DiskCache::open(folder.path()).expect("a cache");
        let mut left = [".sandbox-host-folder", ".sandbox-host-future", ".sandbox-host-new", &artifact, "another"]
            .map(str::to_owned);
        left.sort();
        assert_eq!(names(folder.path()), left);
    }

    #[cfg(unix)]
    mod unix {
        use std::{
            fs::Permissions,
            os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
            process::Command,
        };

        use super::*;

        const SOMEONE: u32 = 54321;

        fn set_mode(path: &Path, mode: u32) {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
        }

        fn mode(path: &Path) -> u32 {
            fs::metadata(path).expect("metadata").mode() & 0o7777
        }

        #[test]
        fn only_this_user_has_access_to_what_is_made() {
            let parent = tempfile::tempdir().expect("a folder");
            let folder = parent.path().join("cache");
            let cache = DiskCache::open(&folder).expect("a cache");
            cache.store(&key("module"), b"code").expect("stored");
            assert_eq!((mode(&folder), mode(&cache.path(&key("module")))), (0o700, 0o600));
        }

        #[test]
        fn a_folder_that_everyone_can_write_to_is_refused() {
            let folder = tempfile::tempdir().expect("a folder");
            for mode in [0o777, 0o1777, 0o702] {
                set_mode(folder.path(), mode);
                let error = DiskCache::open(folder.path()).expect_err("refused");
                assert!(matches!(error, DiskCacheError::WritableByAll { mode: found, .. } if found == mode), "{error}");
                let message = error.to_string();
                assert!(
                    message.contains(&folder.path().display().to_string()) && message.contains(&format!("{mode:04o}"))
                );
            }
            for mode in [0o700, 0o755, 0o775] {
                set_mode(folder.path(), mode);
                DiskCache::open(folder.path()).expect("a cache");
            }
            assert!(names(folder.path()).is_empty());
        }

        #[test]
        fn a_folder_without_permission_is_an_error_that_names_it() {
            let folder = tempfile::tempdir().expect("a folder");
            for mode in [0o000, 0o500] {
                set_mode(folder.path(), mode);
                // Root can write everywhere.
                if tempfile::tempfile_in(folder.path()).is_err() {
                    let error = DiskCache::open(folder.path()).expect_err("no permission");
                    assert!(matches!(error, DiskCacheError::Write { .. }), "{error}");
                    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
                    let error = DiskCache::open(&folder.path().join("below")).expect_err("no permission");
                    assert!(matches!(error, DiskCacheError::Create { .. }), "{error}");
                }
            }
            set_mode(folder.path(), 0o700);
        }

        #[test]
        fn links_and_pipes_in_place_of_a_file_are_nothing() {
            let (folder, cache) = cache();
            let (module, link, pipe) = (key("module"), key("link"), key("pipe"));
            cache.store(&link, b"code").expect("stored");
            fs::rename(cache.path(&link), folder.path().join("elsewhere")).expect("renamed");
            symlink("elsewhere", cache.path(&link)).expect("a link");
            let made = Command::new("mkfifo").arg(cache.path(&pipe)).status().expect("mkfifo");
            assert!(made.success());

            cache.store(&module, b"code").expect("stored");
            assert_eq!((cache.load(&link), cache.load(&pipe)), (None, None));
            for key in [&link, &pipe] {
                cache.store(key, b"new code").expect("stored");
                assert_eq!(cache.load(key).as_deref(), Some(&b"new code"[..]));
            }
            assert_ne!(fs::read(folder.path().join("elsewhere")).expect("a file").last_chunk(), Some(b"new code"));
        }

        #[test]
        fn a_file_that_others_can_write_to_is_not_loaded() {
            let (_folder, cache) = cache();
            let key = key("module");
            for mode in [0o620, 0o602, 0o666] {
                cache.store(&key, b"code").expect("stored");
                set_mode(&cache.path(&key), mode);
                assert_eq!(cache.load(&key), None);
                assert!(!cache.path(&key).exists());
            }
            cache.store(&key, b"code").expect("stored");
            set_mode(&cache.path(&key), 0o444);
            assert!(cache.load(&key).is_some());
        }

        #[test]
        fn a_file_without_permission_is_not_loaded_but_replaced() {
            let (_folder, cache) = cache();
            let key = key("module");
            cache.store(&key, b"code").expect("stored");
            set_mode(&cache.path(&key), 0o000);
            if File::open(cache.path(&key)).is_err() {
                assert_eq!(cache.load(&key), None);
                assert!(cache.path(&key).exists());
            }
            cache.store(&key, b"code").expect("stored");
            assert!(cache.load(&key).is_some());
        }

        #[test]
        fn what_belongs_to_another_user_is_refused() {
            let (folder, cache) = cache();
            let key = key("module");
            cache.store(&key, b"code").expect("stored");
            if chown(cache.path(&key), Some(SOMEONE), None).is_err() {
                // Only root can give files away.
                return;
            }
            assert_eq!(cache.load(&key), None);
            assert!(!cache.path(&key).exists());

            chown(folder.path(), Some(SOMEONE), None).expect("given away");
            let error = DiskCache::open(folder.path()).expect_err("refused");
            assert!(matches!(error, DiskCacheError::OtherOwner { owner: SOMEONE, user: 0, .. }), "{error}");
            assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
        }
    }
}
