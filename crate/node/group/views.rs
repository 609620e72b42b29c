//! The zero-copy ArrayBuffers over the memories of a realm, and transferred buffers: buffers that took
//! over the bytes of such a view.

use std::{any::Any, cell::RefCell, rc::Rc};

use crate::{
    engine::MemoryRegion,
    node::{
        error::NativeError,
        raw::{JsValue, Reference, Scope},
    },
};

#[derive(Default)]
pub struct Views {
    views: RefCell<Vec<View>>,
    /// The bytes of views that other code has detached, as byte streams and
    /// `ArrayBuffer.prototype.transfer` do. Another buffer may have these bytes now.
    transferred_buffers: RefCell<Vec<TransferredBuffer>>,
}

/// The bytes of a memory that another buffer may have. That buffer cannot be detached from here.
struct TransferredBuffer {
    memory: u32,
    bytes: Rc<Bytes>,
}

impl TransferredBuffer {
    fn is_out(&self) -> bool {
        self.bytes.are_out()
    }
}

/// The views of memories that move to another store, and the transferred buffers.
pub struct Moved {
    views: Vec<View>,
    transferred_buffers: Vec<TransferredBuffer>,
}

/// A zero-copy ArrayBuffer over one memory.
pub struct View {
    pub memory: u32,
    pub region: MemoryRegion,
    /// A weak reference: a strong one would keep the buffer, and so the memory, forever. The memory's
    /// wrapper refers to the buffer, so it can be checked whether other code has detached it.
    buffer: Reference,
    /// Its bytes, which live as long as any buffer that has them.
    bytes: Rc<Bytes>,
}

/// Shared by a buffer and any buffer that took over its bytes.
#[derive(Default)]
struct Bytes {
    /// The owner of the bytes, if it would be gone otherwise.
    home: RefCell<Option<Rc<dyn Any>>>,
}

impl Bytes {
    /// Whether a buffer still has the bytes. One reference to this object belongs to the group; further
    /// ones belong to buffers.
    fn are_out(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1
    }
}

impl Views {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.views.borrow().is_empty()
    }

    /// The buffer over a memory, if there is one that has not been detached.
    pub fn find(&self, scope: Scope, memory: u32) -> Option<JsValue> {
        let mut views = self.views.borrow_mut();
        let at = views.iter().position(|view| view.memory == memory)?;
        let intact = views[at].buffer.get(scope).filter(|buffer| !scope.is_detached(*buffer));
        if intact.is_none() {
            self.detach(scope, views.swap_remove(at));
        }
        intact
    }

    /// A new buffer over a memory. `None` if the host forbids such buffers.
    ///
    /// # Safety
    ///
    /// The region must stay until the buffer is detached: by [`Views::detach_all`], or by
    /// [`Views::detach_stale`] before JavaScript runs after the memory has grown. While
    /// [`Views::have_transferred_buffers`], it must stay all the same, which [`Views::outlive`] is for.
    pub unsafe fn add(&self, scope: Scope, memory: u32, region: MemoryRegion) -> Result<Option<JsValue>, NativeError> {
        let bytes = Rc::<Bytes>::default();
        // SAFETY: passed on to the caller.
        let buffer = unsafe { scope.external_buffer(region.base, region.bytes, bytes.clone()) };
        if let Some(buffer) = buffer {
            let view = View { memory, region, buffer: Reference::weak(scope, buffer)?, bytes };
            self.views.borrow_mut().push(view);
        }
        Ok(buffer)
    }

    pub fn detach_all(&self, scope: Scope) {
        for view in self.views.take() {
            self.detach(scope, view);
        }
    }

    /// Detaches the views for which `is_current` is false.
    pub fn detach_stale(&self, scope: Scope, is_current: impl Fn(&View) -> bool) {
        let stale: Vec<View> = self.views.borrow_mut().extract_if(.., |view| !is_current(view)).collect();
        for view in stale {
            self.detach(scope, view);
        }
    }

    fn detach(&self, scope: Scope, view: View) {
        let is_ours = view.buffer.get(scope).is_some_and(|buffer| scope.detach_buffer(buffer));
        view.buffer.delete(scope);
        if !is_ours && view.bytes.are_out() {
            let transferred = TransferredBuffer { memory: view.memory, bytes: view.bytes };
            self.transferred_buffers.borrow_mut().push(transferred);
        }
    }

    /// Whether a transferred buffer has bytes of the memories. It cannot be detached from here.
    pub fn have_transferred_buffers(&self, scope: Scope) -> bool {
        self.detach_stale(scope, |view| view.buffer.get(scope).is_some_and(|buffer| !scope.is_detached(buffer)));
        self.transferred_buffers.borrow_mut().retain(TransferredBuffer::is_out);
        !self.transferred_buffers.borrow().is_empty()
    }

    /// Whether a transferred buffer has bytes of one of these memories.
    pub fn have_transferred_buffers_of(&self, scope: Scope, memories: &[u32]) -> bool {
        let is_one = |buffer: &TransferredBuffer| memories.contains(&buffer.memory);
        self.have_transferred_buffers(scope) && self.transferred_buffers.borrow().iter().any(is_one)
    }

    /// Keeps `home`, which owns the memories, until no transferred buffer has their bytes.
    pub fn outlive(&self, home: &Rc<impl Any>) {
        let home: Rc<dyn Any> = home.clone();
        for buffer in self.transferred_buffers.take().into_iter().filter(TransferredBuffer::is_out) {
            buffer.bytes.home.replace(Some(home.clone()));
        }
    }

    /// Removes and returns the views and transferred buffers of the memories `kept`, which are sorted.
    /// Those of memory `kept[n]` become those of memory `n`.
    pub fn take_moved(&self, kept: &[u32]) -> Moved {
        let place = |memory: u32| kept.partition_point(|kept| *kept < memory) as u32;
        let is_kept = |memory: u32| kept.binary_search(&memory).is_ok();
        let mut views = self.views.borrow_mut();
        let views = views.extract_if(.., |view| is_kept(view.memory));
        let mut buffers = self.transferred_buffers.borrow_mut();
        let buffers = buffers.extract_if(.., |buffer| is_kept(buffer.memory));
        Moved {
            views: views.map(|view| View { memory: place(view.memory), ..view }).collect(),
            transferred_buffers: buffers
                .map(|buffer| TransferredBuffer { memory: place(buffer.memory), ..buffer })
                .collect(),
        }
    }

    pub fn extend(&self, moved: Moved) {
        self.views.borrow_mut().extend(moved.views);
        self.transferred_buffers.borrow_mut().extend(moved.transferred_buffers);
    }
}
