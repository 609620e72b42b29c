//! The function types of modules that are linked in one store. A part of `engine/wasmer.rs`.
//!
//! wasmer identifies a function type by a 32-bit hash, and `call_indirect` compares nothing else. A
//! wasmer engine refuses the second type with the same hash, but each module here has an engine of its
//! own. Where modules share tables or functions, two types constructed to have the same hash could be
//! called as one another, so a store refuses the second one before it links.

use std::collections::{HashMap, hash_map::Entry};

use wasmer::FunctionType;

use crate::error::InstantiateError;

/// The types of all modules that are linked, by their hash.
#[derive(Debug, Default)]
pub struct LinkedTypes(HashMap<u32, FunctionType>);

impl LinkedTypes {
    /// Records a module's types.
    ///
    /// # Errors
    ///
    /// Refuses a module with a type that has the same hash as a different, recorded type.
    pub fn admit(&mut self, module: &wasmer::Module) -> Result<(), InstantiateError> {
        for ty in module.info().signatures.values() {
            match self.0.entry(ty.signature_hash()) {
                Entry::Vacant(free) => {
                    free.insert(ty.clone());
                }
                Entry::Occupied(known) if known.get() == ty => {}
                Entry::Occupied(known) => {
                    let message = format!("the types {} and {ty} cannot be told apart by this engine", known.get());
                    return Err(InstantiateError::Link(crate::error::cut(message)));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasmer::Type;

    use super::*;
    use crate::{
        engine::{Engine as _, EngineConfig, wasmer::Wasmer},
        module::Module,
        realm::{Import, Realm},
    };

    /// Two lists of parameters whose functions without results have the same hash.
    fn colliding() -> [Vec<Type>; 2] {
        const TYPES: [Type; 4] = [Type::I32, Type::I64, Type::F32, Type::F64];
        let mut seen = HashMap::new();
        for number in 0_u64.. {
            // Enough of them, and in no order.
            let bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let params: Vec<Type> = (0..24).map(|place| TYPES[(bits >> (2 * place) & 3) as usize]).collect();
            let hash = FunctionType::new(params.clone(), []).signature_hash();
            match seen.insert(hash, params.clone()) {
                Some(other) if other != params => return [other, params],
                _ => {}
            }
        }
        unreachable!("there are more lists than hashes")
    }

    #[test]
    fn two_types_with_the_same_hash_are_not_linked() {
        let [one, other] = colliding();
        let names = |types: &[Type]| types.iter().map(|ty| format!("{ty:?} ").to_lowercase()).collect::<String>();
        let engine = Arc::new(Wasmer::new(&EngineConfig::default()).expect("the configuration is good"));
        let realm = Realm::new(&engine);
        let compile = |text: String| {
            let wasm = wat::parse_str(text).expect("valid text");
            Arc::new(Module::compile(&*engine, &wasm).expect("a good module"))
        };
        let giving = compile(format!(
            r#"(module (table (export "t") 1 funcref) (func $f (param {})) (elem (i32.const 0) $f))"#,
            names(&one)
        ));
        let taking = |types: &[Type]| {
            let operands: String = types.iter().map(|ty| format!("({ty:?}.const 0) ").to_lowercase()).collect();
            compile(format!(
                r#"(module (type $t (func (param {}))) (import "e" "t" (table 1 funcref))
                    (func (export "run") (call_indirect (type $t) {operands} (i32.const 0))))"#,
                names(types)
            ))
        };
        let instance = realm.instantiate(&giving, None, &[]).expect("it links");
        let table = realm.exported(instance, 0).expect("a table");
        assert!(matches!(table, Import::Table(0)));
        let refused =
            realm.instantiate(&taking(&other), None, std::slice::from_ref(&table)).expect_err("the types collide");
        assert!(refused.to_string().contains("cannot be told apart"), "{refused}");
        realm.instantiate(&taking(&one), None, &[table]).expect("the same type");
    }
}
