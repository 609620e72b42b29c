//! Work that must happen before an environment ends.

use std::{
    cell::Cell,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::{Rc, Weak},
};

use napi::sys;

use super::scope::{Scope, ok};
use crate::node::error::NativeError;

/// Something that can be shut down. Doing so twice does no harm.
pub trait ShutDown {
    fn shut_down(&self);
}

/// Shuts something down before its environment ends: after hooks that were added later, and before Node
/// removes what was created earlier, including threadsafe functions.
pub struct CleanupHook {
    hooked: *const Hooked,
}

struct Hooked {
    target: Weak<dyn ShutDown>,
    /// A hook that has run must not be removed: Deno would end the process.
    has_run: Cell<bool>,
}

impl CleanupHook {
    pub fn new(scope: Scope, target: Weak<dyn ShutDown>) -> Result<Self, NativeError> {
        let hooked = Rc::into_raw(Rc::new(Hooked { target, has_run: Cell::new(false) }));
        // SAFETY: the pointer stands for one count of the `Rc`, which only `remove` takes back, after it
        // has removed the hook.
        let status = unsafe { sys::napi_add_env_cleanup_hook(scope.env, Some(clean_up), hooked.cast_mut().cast()) };
        if ok(status) {
            return Ok(Self { hooked });
        }
        // SAFETY: it comes from `into_raw` above, and no hook has it.
        drop(unsafe { Rc::from_raw(hooked) });
        Err(NativeError::internal("the environment is ending"))
    }

    /// Removes the hook. A hook that is only dropped stays.
    pub fn remove(self, scope: Scope) {
        // SAFETY: the pointer that `new` made of an `Rc`, taken back once, because this consumes `self`.
        let hooked = unsafe { Rc::from_raw(self.hooked) };
        if !hooked.has_run.get() {
            // SAFETY: the hook was added with the same arguments, and has not run.
            unsafe { sys::napi_remove_env_cleanup_hook(scope.env, Some(clean_up), self.hooked.cast_mut().cast()) };
        }
    }
}

unsafe extern "C" fn clean_up(hooked: *mut c_void) {
    // SAFETY: `remove` frees this only after it has removed the hook, or after the hook has run.
    let hooked = unsafe { &*hooked.cast::<Hooked>() };
    hooked.has_run.set(true);
    if let Some(target) = hooked.target.upgrade() {
        let _ = catch_unwind(AssertUnwindSafe(|| target.shut_down()));
    }
}
