//! TypeScript's functions that native code calls.

use std::cell::RefCell;

use super::{
    error::NativeError,
    raw::{JsValue, Reference, Scope, Wake},
};

/// Weak references to these functions: they belong to the copy of the JavaScript that opened the addon.
#[derive(Default)]
pub struct JsFunctions {
    functions: RefCell<Option<Functions>>,
}

struct Functions {
    /// Answers the calls of guests.
    dispatch: Reference,
    /// Takes the events of asynchronous calls.
    drain: Reference,
}

impl Functions {
    fn delete(self, scope: Scope) {
        self.dispatch.delete(scope);
        self.drain.delete(scope);
    }
}

impl JsFunctions {
    pub fn set(&self, scope: Scope, dispatch: JsValue, drain: JsValue) -> Result<(), NativeError> {
        let functions =
            Functions { dispatch: Reference::weak(scope, dispatch)?, drain: Reference::weak(scope, drain)? };
        if let Some(before) = self.functions.replace(Some(functions)) {
            before.delete(scope);
        }
        Ok(())
    }

    /// The function that answers guests.
    pub fn dispatch(&self, scope: Scope) -> Option<JsValue> {
        self.functions.borrow().as_ref()?.dispatch.get(scope)
    }

    fn drain(&self, scope: Scope) -> Option<JsValue> {
        self.functions.borrow().as_ref()?.drain.get(scope)
    }

    /// Sets whether this copy of the JavaScript must stay although nothing refers to it, because
    /// asynchronous calls are pending whose events it must receive.
    pub fn keep_alive(&self, scope: Scope, is_needed: bool) {
        if let Some(Functions { drain, .. }) = &*self.functions.borrow() {
            drain.hold(scope, is_needed);
        }
    }

    pub fn forget(&self, scope: Scope) {
        if let Some(functions) = self.functions.take() {
            functions.delete(scope);
        }
    }
}

/// Called when there are events and the JavaScript thread is not looking.
impl Wake for JsFunctions {
    fn wake(&self, scope: Scope) {
        if let Some(drain) = self.drain(scope) {
            scope.call(scope.undefined(), drain);
        }
    }
}
