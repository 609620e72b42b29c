#[cfg(unix)]
mod unix;

use std::{sync::Barrier, thread, time::SystemTime};

use tempfile::TempDir;

use super::{
    entry::{HEADER, MAX_ARTIFACT, prefix},
    *,
};

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

/// Writes these bytes to the key's file. Other users cannot write to the file, whatever the umask.
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
            // Where the file system supports holes, the file is as long as its header says.
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
    let mut left =
        [".sandbox-host-folder", ".sandbox-host-future", ".sandbox-host-new", &artifact, "another"].map(str::to_owned);
    left.sort();
    assert_eq!(names(folder.path()), left);
}
