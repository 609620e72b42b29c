//! A table of native objects, each of which belongs to one JavaScript wrapper object.
//!
//! TypeScript refers to an object by its number. A number is reused only after its wrapper has been
//! collected or has given the object up. So whoever holds a wrapper never reaches another object by its
//! number.

use std::cell::RefCell;

use slab::Slab;

use super::{
    error::{ErrorKind, NativeError},
    raw::{JsValue, Reference, Scope},
};

pub struct Table<T> {
    entries: RefCell<Slab<Owned<T>>>,
}

struct Owned<T> {
    object: T,
    /// A weak reference: a strong one would keep both alive forever.
    wrapper: Reference,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: RefCell::default() }
    }
}

impl<T> Table<T> {
    /// Adds an object to the table, and returns the number by which its wrapper refers to it.
    pub fn add(&self, scope: Scope, object: T, wrapper: JsValue) -> Result<u32, NativeError> {
        let wrapper = Reference::weak(scope, wrapper)?;
        let mut entries = self.entries.borrow_mut();
        let number = entries.vacant_key();
        match u32::try_from(number) {
            Ok(id) => {
                entries.insert(Owned { object, wrapper });
                Ok(id)
            }
            Err(_) => {
                wrapper.delete(scope);
                Err(NativeError::new(ErrorKind::Limit, "there are too many objects"))
            }
        }
    }

    /// Passes an object to `look`, which must not use the table.
    #[inline]
    pub fn with<R>(&self, number: u32, look: impl FnOnce(&T) -> R) -> Result<R, NativeError> {
        let entries = self.entries.borrow();
        entries.get(number as usize).map(|entry| look(&entry.object)).ok_or_else(|| no_object(number))
    }

    /// An address that is unique to this object as long as it is in the table.
    pub fn identity(&self, number: u32) -> Result<usize, NativeError> {
        let entries = self.entries.borrow();
        entries.get(number as usize).map(|entry| entry.wrapper.address()).ok_or_else(|| no_object(number))
    }

    /// The wrapper of an object, if it has not been collected.
    pub fn wrapper(&self, scope: Scope, number: u32) -> Option<JsValue> {
        self.entries.borrow().get(number as usize)?.wrapper.get(scope)
    }

    /// Changes each object. `change` must not use the table.
    pub fn for_each(&self, mut change: impl FnMut(u32, &mut T)) {
        for (number, entry) in &mut *self.entries.borrow_mut() {
            change(number as u32, &mut entry.object);
        }
    }

    /// Removes an object because its wrapper gives it up.
    pub fn remove(&self, scope: Scope, number: u32) -> Option<T> {
        let entry = self.entries.borrow_mut().try_remove(number as usize)?;
        entry.wrapper.delete(scope);
        Some(entry.object)
    }

    /// Removes the objects whose wrappers have been collected.
    pub fn take_collected(&self, scope: Scope) -> Vec<T> {
        self.take_if(scope, |entry| entry.wrapper.get(scope).is_none())
    }

    /// Removes all objects.
    pub fn take_all(&self, scope: Scope) -> Vec<T> {
        self.take_if(scope, |_| true)
    }

    /// Drops all objects without using Node-API, when the environment ends. The references go with the
    /// environment.
    pub fn drop_all(&self) {
        drop(self.entries.take());
    }

    /// Leaks all objects.
    pub fn leak_all(&self) {
        std::mem::forget(self.entries.take());
    }

    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    fn take_if(&self, scope: Scope, is_wanted: impl Fn(&Owned<T>) -> bool) -> Vec<T> {
        let wanted: Vec<usize> = {
            let entries = self.entries.borrow();
            entries.iter().filter(|(_, entry)| is_wanted(entry)).map(|(number, _)| number).collect()
        };
        wanted.into_iter().filter_map(|number| self.remove(scope, number as u32)).collect()
    }
}

impl<T: Clone> Table<T> {
    pub fn get(&self, number: u32) -> Result<T, NativeError> {
        self.with(number, T::clone)
    }
}

/// TypeScript passes only numbers of its own wrappers, so this error is a bug of this package.
#[cold]
fn no_object(number: u32) -> NativeError {
    NativeError::internal(format!("no object has the number {number}"))
}
