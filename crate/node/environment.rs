//! Everything that the addon holds for one copy of the package's JavaScript. A process can have several
//! copies, even in one Node environment: bundles, a test runner's fresh registry for each file, an ES
//! module beside CommonJS. Each copy opens the addon separately and shares only engines and the default
//! cache with the others.

use std::{
    cell::Cell,
    rc::{Rc, Weak},
};

use super::{
    calls::Calls,
    raw::{CleanupHook, Scope, ShutDown},
    scratch::Scratch,
    tables::Tables,
};

pub struct Environment {
    pub tables: Tables,
    pub calls: Calls,
    hook: Cell<Option<CleanupHook>>,
}

impl Environment {
    pub fn new(scope: Scope, scratch: Scratch) -> Rc<Self> {
        let environment = Rc::new_cyclic(|this: &Weak<Self>| Self {
            tables: Tables::new(scratch),
            calls: Calls::new(this.clone()),
            hook: Cell::default(),
        });
        let this: Weak<Self> = Rc::downgrade(&environment);
        environment.hook.set(CleanupHook::new(scope, this).ok());
        environment
    }

    /// Drops everything, after the copy of the JavaScript that opened this has been collected.
    pub fn dispose(&self, scope: Scope) {
        self.calls.unhook(scope);
        if let Some(hook) = self.hook.take() {
            hook.remove(scope);
        }
        self.calls.shut_down(false);
        self.tables.dispose(scope);
        self.calls.close();
    }
}

impl ShutDown for Environment {
    /// Drops everything when the Node environment ends. If a guest is still on the stack (`process.exit`
    /// in a supervisor call), its memory stays until the process ends.
    fn shut_down(&self) {
        let is_running = self.tables.running.get() > 0;
        self.calls.shut_down(is_running);
        self.tables.shut_down(is_running);
        self.calls.close();
    }
}
