//! Memories and tables that do not grow beyond the limits of their store. A part of `engine/wasmer.rs`.

use std::ptr::NonNull;

use wasmer::sys::{
    BaseTunables, Tunables,
    vm::{self, LinearMemory, MemoryError, MemoryStyle, TableStyle, VMConfig, VMMemory, VMTable},
};
use wasmer_types::{MemoryType, Pages, TableType};

use super::{
    super::StoreLimits,
    memory::{self, Bounds},
};
use crate::{
    total::{Charge, TotalExceeded},
    value::PAGE_BYTES,
};

/// Creates memories and tables with the lower of the declared maximum and the limit, which is all that a
/// guest can observe.
pub struct Limited {
    base: BaseTunables,
    limits: StoreLimits,
    /// The bounds of the memories that the host creates, and of the compiled code; `None` if they depend
    /// on the number of memories.
    bounds: Option<Bounds>,
}

impl Limited {
    pub fn new(limits: StoreLimits, bounds: Option<Bounds>) -> Self {
        Self { base: BaseTunables::new(), limits, bounds }
    }

    fn memory(&self, ty: &MemoryType) -> Result<MemoryType, MemoryError> {
        if self.limits.memory_bytes.is_none() {
            return Ok(*ty);
        }
        let most = u32::try_from(self.limits.memory_pages()).unwrap_or(u32::MAX);
        if ty.minimum.0 > most {
            let (min_requested, max_allowed) = (ty.minimum, Pages(most));
            return Err(MemoryError::MinimumMemoryTooLarge { min_requested, max_allowed });
        }
        let maximum = ty.maximum.map_or(most, |maximum| maximum.0.min(most));
        Ok(MemoryType { maximum: Some(Pages(maximum)), ..*ty })
    }

    fn counted(&self, memory: VMMemory, charge: Charge) -> VMMemory {
        if self.limits.total.is_none() { memory } else { VMMemory(Box::new(Counted { memory, charge })) }
    }

    fn table(&self, ty: &TableType) -> Result<TableType, String> {
        let most = self.limits.table_elements();
        if ty.minimum > most {
            return Err(format!("a table of {} elements exceeds the limit of {most}", ty.minimum));
        }
        Ok(TableType { maximum: Some(ty.maximum.map_or(most, |maximum| maximum.min(most))), ..*ty })
    }
}

/// A memory whose bytes count toward a total. The charge moves with it when it moves to another store.
#[derive(Debug)]
struct Counted {
    memory: VMMemory,
    charge: Charge,
}

fn bytes(pages: Pages) -> u64 {
    u64::from(pages.0) * PAGE_BYTES
}

fn refused(exceeded: TotalExceeded) -> MemoryError {
    MemoryError::Generic(exceeded.to_string())
}

impl LinearMemory for Counted {
    fn ty(&self) -> MemoryType {
        self.memory.ty()
    }

    fn size(&self) -> Pages {
        self.memory.size()
    }

    fn style(&self) -> MemoryStyle {
        self.memory.style()
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        self.charge.add(bytes(delta)).map_err(refused)?;
        self.memory.grow(delta).inspect_err(|_| self.charge.give_back(bytes(delta)))
    }

    fn vmmemory(&self) -> NonNull<vm::VMMemoryDefinition> {
        self.memory.vmmemory()
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(uncounted())
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(uncounted())
    }
}

/// The error for copying a memory, which nothing here does.
fn uncounted() -> MemoryError {
    MemoryError::UnsupportedOperation { message: "a memory that counts to a total has no copies".to_owned() }
}

impl Tunables for Limited {
    fn memory_style(&self, _memory: &MemoryType) -> MemoryStyle {
        self.bounds.unwrap_or_else(|| Bounds::for_new(1)).style()
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }

    fn create_host_memory(&self, ty: &MemoryType, style: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        let mut charge = Charge::new(self.limits.total.clone());
        charge.add(bytes(ty.minimum)).map_err(refused)?;
        let ty = self.memory(ty)?;
        let memory = memory::host_memory(&ty, *style).or_else(|error| match (self.bounds, Bounds::of(*style)) {
            // There may be room for a smaller one.
            (None, Bounds::Guarded) => memory::host_memory(&ty, Bounds::Checked.style()),
            _ => Err(error),
        })?;
        Ok(self.counted(memory, charge))
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        definition: NonNull<vm::VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        // SAFETY: passed on to the caller.
        let memory = unsafe { memory::instance_memory(&self.memory(ty)?, *style, definition) }?;
        // The realm has counted its initial bytes.
        Ok(self.counted(memory, Charge::new(self.limits.total.clone())))
    }

    fn create_host_table(&self, ty: &TableType, style: &TableStyle) -> Result<VMTable, String> {
        self.base.create_host_table(&self.table(ty)?, style)
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        definition: NonNull<vm::VMTableDefinition>,
    ) -> Result<VMTable, String> {
        // SAFETY: passed on to the caller.
        unsafe { self.base.create_vm_table(&self.table(ty)?, style, definition) }
    }

    fn vmconfig(&self) -> &VMConfig {
        self.base.vmconfig()
    }
}
