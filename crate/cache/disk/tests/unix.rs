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
        assert!(message.contains(&folder.path().display().to_string()) && message.contains(&format!("{mode:04o}")));
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
