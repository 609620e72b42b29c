//! A realm as JavaScript sees it: with the zero-copy views of its memories and the bytes that V8 is told about.

use std::cell::{Cell, RefCell};

use super::{
    backend::{AnyRealm, with_realm},
    raw::{Reference, Scope, Throw, Value},
};
use crate::{engine::MemoryRegion, error::StoreError};

/// A realm and what hangs on it. When the last handle is gone it goes too, after its views are detached.
pub struct Group {
    pub realm: AnyRealm,
    views: RefCell<Vec<View>>,
    /// What V8 was told.
    reported: Cell<i64>,
    /// Bytes of instances' own memories and records, as far as they can be told at instantiation.
    extra: Cell<i64>,
}

/// A zero-copy ArrayBuffer over one memory.
struct View {
    memory: u32,
    region: MemoryRegion,
    /// Weak: a view that JavaScript forgets can be collected while the group lives.
    buffer: Reference,
}

/// About what a store without objects takes, on either engine.
const STORE_BYTES: i64 = 4096;

impl Group {
    pub fn new(realm: AnyRealm) -> Self {
        Self { realm, views: RefCell::default(), reported: Cell::new(0), extra: Cell::new(STORE_BYTES) }
    }

    fn region(&self, memory: u32) -> Result<MemoryRegion, StoreError> {
        with_realm!(&self.realm, realm => realm.memory_region(memory))
    }

    /// The memory's ArrayBuffer: the same one as long as the memory keeps its size, or a copy if it can't be shared.
    pub fn view(&self, scope: Scope, memory: u32) -> Result<Value, Throw> {
        if let Some(shared) = self.shared_view(scope, memory)? {
            return Ok(shared);
        }
        let region = self.region(memory).map_err(|error| Throw::new("store", error))?;
        // SAFETY: the region is readable until the memory grows or the realm is dropped, and nothing runs during the copy.
        unsafe { scope.copied_buffer(region.base, region.bytes) }
    }

    /// The same without the copy. There is nothing to share if the memory is empty or the host forbids it, as Electron does.
    pub fn shared_view(&self, scope: Scope, memory: u32) -> Result<Option<Value>, Throw> {
        self.detach_stale(scope);
        let mut views = self.views.borrow_mut();
        if let Some(at) = views.iter().position(|view| view.memory == memory) {
            if let Some(buffer) = views[at].buffer.get(scope) {
                return Ok(Some(buffer));
            }
            views.swap_remove(at).buffer.delete(scope);
        }
        let region = self.region(memory).map_err(|error| Throw::new("store", error))?;
        if region.bytes == 0 {
            return Ok(None);
        }
        // SAFETY: the region stays until the memory grows or the realm is dropped; before either lets JavaScript run
        // again, `detach_stale` or `release` detaches the buffer.
        let buffer = unsafe { scope.external_buffer(region.base, region.bytes) };
        if let Some(buffer) = buffer {
            views.push(View { memory, region, buffer: Reference::weak(scope, buffer)? });
        }
        Ok(buffer)
    }

    /// Detaches the views of memories that have grown. To be called whenever a guest may have run, before JavaScript does.
    #[inline]
    pub fn detach_stale(&self, scope: Scope) {
        if !self.views.borrow().is_empty() {
            self.detach_stale_views(scope);
        }
    }

    fn detach_stale_views(&self, scope: Scope) {
        let is_current = |view: &View| self.region(view.memory) == Ok(view.region);
        let stale: Vec<View> = self.views.borrow_mut().extract_if(.., |view| !is_current(view)).collect();
        for view in stale {
            view.detach(scope);
        }
    }

    /// Detaches all views and takes back what V8 was told: the realm is about to go.
    pub fn release(&self, scope: Scope) {
        for view in self.views.take() {
            view.detach(scope);
        }
        scope.adjust_external_memory(-self.reported.take());
    }

    /// Counts bytes that no memory of the realm's table shows.
    pub fn add_extra(&self, bytes: u64) {
        self.extra.set(self.extra.get().saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }

    /// Tells V8 how much native memory hangs on this group by now.
    pub fn report(&self, scope: Scope) {
        let memories = with_realm!(&self.realm, realm => realm.memory_count());
        let bytes = (0..memories)
            .filter_map(|memory| self.region(memory).ok())
            .fold(self.extra.get(), |sum, region| sum.saturating_add(i64::try_from(region.bytes).unwrap_or(i64::MAX)));
        scope.adjust_external_memory(bytes - self.reported.replace(bytes));
    }
}

impl View {
    fn detach(self, scope: Scope) {
        if let Some(buffer) = self.buffer.get(scope) {
            scope.detach_buffer(buffer);
        }
        self.buffer.delete(scope);
    }
}
