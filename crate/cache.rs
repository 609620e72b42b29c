//! Compiled modules, shared by all stores and threads that use the same cache. Each module is compiled
//! once at a time: a thread that requests a module that another thread is compiling waits for it.

use std::{hash::Hash, sync::Arc};

use quick_cache::sync::Cache;

use crate::engine::EngineId;

pub mod disk;

/// What a compiled module depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Hash of the binary. It is collision-resistant, because whoever supplies modules may want to get
    /// another module's cached code.
    pub wasm: [u8; 32],
    /// The engine that compiled the code.
    pub engine: EngineId,
}

impl Key {
    pub fn new(wasm: &[u8], engine: EngineId) -> Self {
        Self { wasm: *blake3::hash(wasm).as_bytes(), engine }
    }
}

/// A bounded cache. `M` is cheap to clone.
pub struct ModuleCache<M> {
    entries: Cache<Key, M>,
}

impl<M: Clone> ModuleCache<M> {
    /// A cache of at most `entries` modules.
    pub fn new(entries: usize) -> Arc<Self> {
        Arc::new(Self { entries: Cache::new(entries) })
    }

    /// Returns the module, compiled by `compile` if it is not in the cache. A failure is not cached.
    pub fn get_or_compile<Error>(&self, key: &Key, compile: impl FnOnce() -> Result<M, Error>) -> Result<M, Error> {
        self.entries.get_or_insert_with(key, compile)
    }

    /// The number of modules in the cache.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }
}

/// Enough for a chain node's working set; the wasmer artifact of a module of 1 MB takes about 6 MB.
pub const DEFAULT_ENTRIES: usize = 256;

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn threads_that_ask_at_once_share_one_compile() {
        let (cache, id) = (ModuleCache::<u32>::new(8), EngineId::next());
        let compiles = Arc::new(AtomicUsize::new(0));
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (cache, compiles, barrier) = (cache.clone(), compiles.clone(), barrier.clone());
                thread::spawn(move || {
                    barrier.wait();
                    cache.get_or_compile(&Key::new(b"module", id), || {
                        compiles.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(20));
                        Ok::<_, ()>(7)
                    })
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), Ok(7));
        }
        assert_eq!(compiles.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_compile_is_tried_again() {
        let (cache, id) = (ModuleCache::<u32>::new(8), EngineId::next());
        let key = Key::new(b"module", id);
        assert_eq!(cache.get_or_compile(&key, || Err("no")), Err("no"));
        assert_eq!(cache.get_or_compile(&key, || Ok::<_, &str>(1)), Ok(1));
    }

    #[test]
    fn the_same_bytes_on_two_engines_are_two_modules() {
        let cache = ModuleCache::<u32>::new(8);
        let (one, two) = (EngineId::next(), EngineId::next());
        let get = |engine, module| cache.get_or_compile(&Key::new(b"module", engine), || Ok::<_, ()>(module));
        assert_eq!((get(one, 1), get(two, 2), get(one, 3)), (Ok(1), Ok(2), Ok(1)));
    }

    #[test]
    fn the_cache_is_bounded() {
        let (cache, id) = (ModuleCache::<u32>::new(4), EngineId::next());
        for module in 0..100_u32 {
            let _ = cache.get_or_compile(&Key::new(&module.to_le_bytes(), id), || Ok::<_, ()>(module));
        }
        assert!(cache.len() <= 4, "{} entries", cache.len());
    }
}
