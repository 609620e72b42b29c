//! This program's memory as its host sees it: an allocator that both sides use, and ranges of bytes.

use core::{
    alloc::{GlobalAlloc, Layout},
    cell::{Cell, RefCell},
    ptr, slice,
};
use dlmalloc::Dlmalloc;

/// The allocator of all of this program.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator { inner: RefCell::new(Dlmalloc::new()), blocks: Cell::new(0) };

/// An allocator whose blocks can be freed by their address alone, as the host must do with what was leaked to it.
struct Allocator {
    /// Where the memory comes from.
    inner: RefCell<Dlmalloc>,
    /// How many blocks are live.
    blocks: Cell<u32>,
}

// SAFETY: this program has one thread.
unsafe impl Sync for Allocator {}

/// What is kept before each block.
#[repr(C, align(8))]
struct Header {
    /// How many bytes were taken from the inner allocator.
    total: usize,
    /// How many of them are before the block. This is their alignment, too.
    before: usize,
}

// SAFETY: a block begins `before` bytes into one of the inner allocator's, which is aligned to as much, and reaches to
// its end. `before` is a power of two, no less than the block's alignment and a header's size, so both are aligned.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let before = layout.align().max(size_of::<Header>());
        let Some(total) = before.checked_add(layout.size()) else {
            return ptr::null_mut();
        };
        // SAFETY: `before` is a power of two, and the header, which ends where the block begins, is in the new bytes.
        unsafe {
            let start = self.inner.borrow_mut().malloc(total, before);
            if start.is_null() {
                return start;
            }
            let block = start.add(before);
            block.cast::<Header>().sub(1).write(Header { total, before });
            self.blocks.set(self.blocks.get() + 1);
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller gives a live block, so `alloc` wrote its header.
        unsafe {
            let Header { total, before } = block.cast::<Header>().sub(1).read();
            self.inner.borrow_mut().free(block.sub(before), total, before);
        }
        self.blocks.set(self.blocks.get() - 1);
    }
}

/// Allocates `size` bytes, aligned to 8. Returns their address, or 0 if there is no memory for them.
#[unsafe(no_mangle)]
extern "C" fn allocate(size: u32) -> u32 {
    match Layout::from_size_align(size as usize, 8) {
        // SAFETY: unlike others, this allocator needs no size above zero.
        Ok(layout) => unsafe { ALLOCATOR.alloc(layout) as u32 },
        Err(_) => 0,
    }
}

/// Frees a block that `allocate` returned or that this program leaked to the host. With 0, does nothing.
#[unsafe(no_mangle)]
extern "C" fn deallocate(pointer: u32) {
    if pointer != 0 {
        // SAFETY: the host gives a live block, whose layout this allocator need not be told.
        unsafe { ALLOCATOR.dealloc(pointer as *mut u8, Layout::new::<()>()) }
    }
}

/// How many blocks are live, those of this program and those of the host together.
#[unsafe(no_mangle)]
extern "C" fn allocated_blocks() -> u32 {
    ALLOCATOR.blocks.get()
}

/// The bytes that the host gave by their address and length, for the time of its call.
pub fn range(pointer: u32, length: u32) -> &'static [u8] {
    range_mut(pointer, length)
}

/// The bytes that the host gave to be written, for the time of its call.
pub fn range_mut(pointer: u32, length: u32) -> &'static mut [u8] {
    if length == 0 {
        return &mut [];
    }
    // SAFETY: the host gives bytes of this program's memory, which nothing else uses until its call has returned.
    unsafe { slice::from_raw_parts_mut(pointer as *mut u8, length as usize) }
}
