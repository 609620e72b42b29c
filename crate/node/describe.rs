//! The imports and exports of a module as JavaScript objects. They are created by hand, so that values
//! that occur often are created only once.

use std::collections::HashMap;

use super::raw::{JsValue, Scope};
use crate::{
    engine::{ExportType, ImportType},
    value::{ExternType, FuncType},
};

/// Describes imports and exports. Each word and each function type is created once: a module of a few KB
/// may have hundreds of thousands of exports, or hundreds of functions of a type with a thousand
/// parameters.
pub struct Describer<'a> {
    scope: Scope,
    keys: Keys,
    words: HashMap<&'static str, JsValue>,
    func_types: HashMap<&'a FuncType, JsValue>,
}

/// The names of properties.
struct Keys {
    module: JsValue,
    name: JsValue,
    kind: JsValue,
    ty: JsValue,
}

impl<'a> Describer<'a> {
    pub fn new(scope: Scope) -> Self {
        let [module, name, kind, ty] = ["module", "name", "kind", "type"].map(|key| scope.string(key));
        let keys = Keys { module, name, kind, ty };
        Self { scope, keys, words: HashMap::new(), func_types: HashMap::new() }
    }

    fn word(&mut self, word: &'static str) -> JsValue {
        let scope = self.scope;
        *self.words.entry(word).or_insert_with(|| scope.string(word))
    }

    /// An `ImportDescription`: `{ name, kind, type, module }`.
    pub fn import(&mut self, ImportType { module, name, ty }: &'a ImportType) -> JsValue {
        let import = self.describe(name, ty);
        self.scope.set_by(import, self.keys.module, self.scope.string(module));
        import
    }

    /// An `ExternDescription`: `{ name, kind, type }`.
    pub fn export(&mut self, ExportType { name, ty }: &'a ExportType) -> JsValue {
        self.describe(name, ty)
    }

    fn describe(&mut self, name: &str, ty: &'a ExternType) -> JsValue {
        let scope = self.scope;
        let kind = match ty {
            ExternType::Func(_) => "function",
            ExternType::Memory(_) => "memory",
            ExternType::Table(_) => "table",
            ExternType::Global(_) => "global",
            ExternType::Other => "other",
        };
        let described = scope.object();
        scope.set_by(described, self.keys.name, scope.string(name));
        scope.set_by(described, self.keys.kind, self.word(kind));
        scope.set_by(described, self.keys.ty, self.type_of(ty));
        described
    }

    fn type_of(&mut self, ty: &'a ExternType) -> JsValue {
        let scope = self.scope;
        let limits = |object, minimum: u64, maximum: Option<u64>| {
            scope.set(object, "minimum", scope.number(minimum as f64));
            if let Some(maximum) = maximum {
                scope.set(object, "maximum", scope.number(maximum as f64));
            }
        };
        match ty {
            ExternType::Func(ty) => self.func_type(ty),
            ExternType::Memory(ty) => {
                let object = scope.object();
                limits(object, ty.minimum, ty.maximum);
                object
            }
            ExternType::Table(ty) => {
                let object = scope.object();
                scope.set(object, "element", self.word(ty.element.name()));
                limits(object, ty.minimum, ty.maximum);
                object
            }
            ExternType::Global(ty) => {
                let object = scope.object();
                scope.set(object, "value", self.word(ty.value.name()));
                scope.set(object, "mutable", scope.boolean(ty.mutable));
                object
            }
            ExternType::Other => scope.object(),
        }
    }

    fn func_type(&mut self, ty: &'a FuncType) -> JsValue {
        if let Some(known) = self.func_types.get(ty) {
            return *known;
        }
        let object = self.scope.object();
        for (key, types) in [("parameters", &ty.params), ("results", &ty.results)] {
            let words: Vec<_> = types.iter().map(|ty| self.word(ty.name())).collect();
            self.scope.set(object, key, self.scope.array(words.into_iter()));
        }
        self.func_types.insert(ty, object);
        object
    }
}
