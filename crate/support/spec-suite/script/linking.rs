//! What the imports of a module are linked with: exports of registered modules, and the module `spectest`.

use sandbox_host::{
    engine::Engine,
    module::Module,
    realm::Import,
    value::{ExternType, FuncType, ValueType},
};

use super::{
    Script,
    outcome::{Not, Why},
    place,
};

/// What answers a host call of a guest.
#[derive(Clone, Copy)]
pub enum Target {
    /// A function that prints, which here does nothing.
    Print,
    /// An export of another instance.
    Export { instance: u32, export: u32 },
}

/// What is found under the name of an import.
enum Given {
    Func(FuncType, Target),
    Memory(u32),
    /// A global or a table, which these tests do not link.
    Other,
}

impl<E: Engine> Script<E> {
    /// The imports that a module is linked with, and what answers the calls of each.
    pub(super) fn link(&self, module: &Module<E>) -> Result<(Vec<Import>, Vec<Target>), Not> {
        let (mut imports, mut targets) = (Vec::new(), Vec::new());
        let mut is_refused_above = false;
        for import in &module.imports {
            let Some(given) = self.given(&import.module, &import.name)? else {
                is_refused_above = true;
                continue;
            };
            imports.push(match (&import.ty, given) {
                (_, Given::Other) => return Err(Not::CarriedOut(Why::Import)),
                (ExternType::Func(ty), Given::Func(given, target)) => {
                    is_refused_above |= *ty != given;
                    if ty.first_unsupported().is_some() {
                        return Err(Not::CarriedOut(Why::Import));
                    }
                    targets.push(target);
                    Import::Host
                }
                // The core must refuse the others.
                (_, Given::Func(..)) => Import::Host,
                (_, Given::Memory(memory)) => Import::Memory(memory),
            });
        }
        if is_refused_above { Err(Not::CarriedOut(Why::Above)) } else { Ok((imports, targets)) }
    }

    fn given(&self, module: &str, name: &str) -> Result<Option<Given>, Not> {
        if let Some(made) = self.registered.get(module) {
            let guest = made.guest()?;
            let Some(export) = place(&guest.module, name) else { return Ok(None) };
            let index = guest.index;
            return Ok(Some(match &guest.module.exports[export as usize].ty {
                ExternType::Func(ty) => Given::Func(ty.clone(), Target::Export { instance: index, export }),
                ExternType::Memory(_) => {
                    Given::Memory(self.realm.exported_memory(index, export).expect("the export is a memory"))
                }
                ExternType::Global(_) | ExternType::Table(_) | ExternType::Other => Given::Other,
            }));
        }
        if module != "spectest" {
            return Ok(None);
        }
        use ValueType::{F32, F64, I32, I64};
        let params: &[ValueType] = match name {
            "memory" => return Ok(Some(Given::Memory(self.memory))),
            "table" | "global_i32" | "global_i64" | "global_f32" | "global_f64" => return Ok(Some(Given::Other)),
            "print" => &[],
            "print_i32" => &[I32],
            "print_i64" => &[I64],
            "print_f32" => &[F32],
            "print_f64" => &[F64],
            "print_i32_f32" => &[I32, F32],
            "print_f64_f64" => &[F64, F64],
            _ => return Ok(None),
        };
        Ok(Some(Given::Func(FuncType { params: params.into(), results: Box::default() }, Target::Print)))
    }
}
