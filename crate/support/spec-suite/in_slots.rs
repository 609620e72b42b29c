//! Makes everything that a module exports reachable by the core's slots, which carry numbers of up to 64 bits. For each exported function and
//! global of another type the module gets one more export, a function that does the same: a vector is two i64 there, the low one first, and
//! a reference is an i32: as an argument anything stands for null, as a result 1 does, and 0 for every other reference.
//!
//! What there was before stays as it is, byte for byte.

use sandbox_host::rewrite::{Edits, SectionId, Sections};
use wasm_encoder::{Encode, Function, ValType};
use wasmparser::{ExternalKind, FuncType, RefType, Validator, WasmFeatures};

/// The name of the function that stands for an export.
pub fn name(export: &str) -> String {
    format!("{export} in slots")
}

/// The module with these functions, or `None` if it needs none.
pub fn with_functions_in_slots(wasm: &[u8]) -> Option<Vec<u8>> {
    // What is not valid is for the core to refuse.
    let types = Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).ok()?;
    let types = types.as_ref();
    let sections = Sections::of(wasm);
    let mut added = Added {
        first_type: types.core_type_count_in_module(),
        first_func: types.function_count(),
        count: 0,
        edits: Edits::default(),
    };
    for export in sections.exports() {
        match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                let ty = types[types.core_function_at(export.index)].unwrap_func();
                added.function(export.name, Original::Func(export.index), ty);
            }
            ExternalKind::Global => {
                let ty = FuncType::new([], [types.global_at(export.index).content_type]);
                added.function(export.name, Original::Global(export.index), &ty);
            }
            _ => {}
        }
    }
    if added.edits.is_empty() {
        return None;
    }
    let made = added.edits.apply(&sections).expect("the module is valid");
    Some(made.wasm.into_owned())
}

/// What an added function stands for.
#[derive(Clone, Copy)]
enum Original {
    Func(u32),
    Global(u32),
}

/// What the module gets.
struct Added {
    first_type: u32,
    first_func: u32,
    count: u32,
    edits: Edits,
}

const FUNCTION_TYPE: u8 = 0x60;
const FUNCTION_EXPORT: u8 = 0;

impl Added {
    /// Adds a function that stands for an export, if that needs one.
    fn function(&mut self, export: &str, original: Original, ty: &FuncType) {
        let types = |types: &[wasmparser::ValType]| types.iter().copied().map(encoded).collect::<Option<Vec<_>>>();
        // Types of proposals that are not here: such a module is refused anyway.
        let (Some(params), Some(results)) = (types(ty.params()), types(ty.results())) else { return };
        if params.iter().chain(&results).all(|ty| slots(*ty) == [*ty]) {
            return;
        }
        let slots_of = |types: &[ValType]| types.iter().flat_map(|ty| slots(*ty)).copied().collect::<Vec<_>>();
        let (params_in_slots, results_in_slots) = (slots_of(&params), slots_of(&results));

        let first_local = params_in_slots.len() as u32;
        let mut function = Function::new_with_locals_types(results.iter().copied());
        let mut code = function.instructions();
        let mut next = 0..;
        let mut param = || next.next().expect("it has no end");
        for ty in &params {
            match ty {
                ValType::V128 => {
                    code.local_get(param()).i64x2_splat().local_get(param()).i64x2_replace_lane(1);
                }
                ValType::Ref(ty) => {
                    param();
                    code.ref_null(ty.heap_type);
                }
                _ => {
                    code.local_get(param());
                }
            }
        }
        match original {
            Original::Func(index) => code.call(index),
            Original::Global(index) => code.global_get(index),
        };
        for local in (0..results.len() as u32).rev() {
            code.local_set(first_local + local);
        }
        for (local, ty) in (first_local..).zip(&results) {
            code.local_get(local);
            match ty {
                ValType::V128 => code.i64x2_extract_lane(0).local_get(local).i64x2_extract_lane(1),
                ValType::Ref(_) => code.ref_is_null(),
                _ => &mut code,
            };
        }
        code.end();
        let (ty, index) = (self.first_type + self.count, self.first_func + self.count);
        self.edits.add(SectionId::Type, |types| {
            types.push(FUNCTION_TYPE);
            params_in_slots.encode(types);
            results_in_slots.encode(types);
        });
        self.edits.add(SectionId::Function, |functions| ty.encode(functions));
        self.edits.add(SectionId::Export, |exports| {
            name(export).as_str().encode(exports);
            exports.push(FUNCTION_EXPORT);
            index.encode(exports);
        });
        self.edits.add(SectionId::Code, |bodies| function.encode(bodies));
        self.count += 1;
    }
}

/// The types of the slots that a value of that type takes.
fn slots(ty: ValType) -> &'static [ValType] {
    match ty {
        ValType::I32 => &[ValType::I32],
        ValType::I64 => &[ValType::I64],
        ValType::F32 => &[ValType::F32],
        ValType::F64 => &[ValType::F64],
        ValType::V128 => &[ValType::I64, ValType::I64],
        ValType::Ref(_) => &[ValType::I32],
    }
}

fn encoded(ty: wasmparser::ValType) -> Option<ValType> {
    match ty {
        wasmparser::ValType::I32 => Some(ValType::I32),
        wasmparser::ValType::I64 => Some(ValType::I64),
        wasmparser::ValType::F32 => Some(ValType::F32),
        wasmparser::ValType::F64 => Some(ValType::F64),
        wasmparser::ValType::V128 => Some(ValType::V128),
        wasmparser::ValType::Ref(RefType::FUNCREF) => Some(ValType::FUNCREF),
        wasmparser::ValType::Ref(RefType::EXTERNREF) => Some(ValType::EXTERNREF),
        wasmparser::ValType::Ref(_) => None,
    }
}
