//! What a module lists as its imports and exports, and the handles of exported memories and globals.

use std::sync::Arc;

use sandbox_host::{
    engine::Engine,
    error::GlobalError,
    module::Module,
    realm::Realm,
    value::{ExternType, FuncType, GlobalType, MemoryType, TableType, ValueType},
};

use crate::guest::{Guest, compile, contents, pages, wasm};

on_both_engines![
    imports_are_listed_in_order_with_their_types,
    exports_are_listed_in_the_order_of_the_binary_with_their_types,
    names_of_any_kind_are_kept,
    an_exported_memory_has_one_index,
    an_imported_memory_that_is_exported_keeps_its_index,
    empty_memories_are_told_apart,
    memories_of_one_module_are_told_apart,
    what_is_no_memory_has_no_memory_index,
    imported_and_own_memories_are_told_apart_whatever_their_names,
    an_exported_memory_is_the_one_that_the_guest_uses,
    memory_0_is_found_if_it_is_exported_and_not_imported,
    globals_are_read_and_written,
    an_immutable_global_cannot_be_written,
    what_is_no_numeric_global_is_not_read,
    a_global_is_shared_with_the_guest,
    only_the_low_bits_of_a_slot_reach_a_small_global,
];

fn func(params: &[ValueType], results: &[ValueType]) -> ExternType {
    ExternType::Func(FuncType { params: params.into(), results: results.into() })
}

fn imports_are_listed_in_order_with_their_types<E: Engine>(engine: &Arc<E>) {
    use ValueType::{ExternRef, F32, F64, FuncRef, I32, I64, V128};
    let module = compile(
        &**engine,
        r#"(module
            (import "b" "z" (func (param i32 i64 f32 f64) (result f64)))
            (import "a" "m" (memory 1 5))
            (import "b" "z" (func))
            (import "a" "t" (table 1 2 funcref))
            (import "c" "g" (global i64))
            (import "c" "h" (global (mut f32)))
            (import "a" "r" (func (param v128 funcref externref) (result i32 i64))))"#,
    );
    let listed: Vec<_> =
        module.imports.iter().map(|import| (&*import.module, &*import.name, import.ty.clone())).collect();
    let global = |value, mutable| ExternType::Global(GlobalType { value, mutable });
    let expected = [
        ("b", "z", func(&[I32, I64, F32, F64], &[F64])),
        ("a", "m", ExternType::Memory(MemoryType { minimum: 1, maximum: Some(5) })),
        ("b", "z", func(&[], &[])),
        ("a", "t", ExternType::Table(TableType { element: FuncRef, minimum: 1, maximum: Some(2) })),
        ("c", "g", global(I64, false)),
        ("c", "h", global(F32, true)),
        ("a", "r", func(&[V128, FuncRef, ExternRef], &[I32, I64])),
    ];
    assert_eq!(listed, expected);
    let funcs: Vec<_> = module.imported_funcs().map(|ty| ty.params.len()).collect();
    assert_eq!(funcs, [4, 0, 3]);
}

fn exports_are_listed_in_the_order_of_the_binary_with_their_types<E: Engine>(engine: &Arc<E>) {
    use ValueType::{ExternRef, F64, I32, I64};
    let module = compile(
        &**engine,
        r#"(module
            (memory 2 7) (table 3 externref) (global (mut i64) (i64.const 0)) (global f64 (f64.const 0))
            (func (param i32) (result i64) unreachable) (func)
            (start 1)
            (export "zebra" (func 0))
            (export "memory" (memory 0))
            (export "start" (func 0))
            (export "mut" (global 0))
            (export "apple" (func 1))
            (export "table" (table 0))
            (export "const" (global 1))
            (export "also memory" (memory 0)))"#,
    );
    let listed: Vec<_> = module.exports.iter().map(|export| (&*export.name, export.ty.clone())).collect();
    let memory = ExternType::Memory(MemoryType { minimum: 2, maximum: Some(7) });
    let global = |value, mutable| ExternType::Global(GlobalType { value, mutable });
    let expected = [
        ("zebra", func(&[I32], &[I64])),
        ("memory", memory.clone()),
        ("start", func(&[I32], &[I64])),
        ("mut", global(I64, true)),
        ("apple", func(&[], &[])),
        ("table", ExternType::Table(TableType { element: ExternRef, minimum: 3, maximum: None })),
        ("const", global(F64, false)),
        ("also memory", memory),
    ];
    assert_eq!(listed, expected);
}

fn names_of_any_kind_are_kept<E: Engine>(engine: &Arc<E>) {
    let names = ["", " ", "z", "é\u{301}", "名前", "\u{202e}", "a\"b\\c\n", "\0", "start", "__proto__"];
    let quoted = |name: &str| name.bytes().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let exports: String = names.iter().map(|name| format!("(export \"{}\" (func 0))", quoted(name))).collect();
    let imports: String = names.iter().map(|name| format!("(import \"{0}\" \"{0}\" (func))", quoted(name))).collect();
    let guest = Guest::new(engine, &format!("(module {imports} {exports} (func))"));
    for (index, name) in names.iter().enumerate() {
        assert_eq!(guest.module.exports[index].name, *name);
        assert_eq!(guest.module.imports[index].module, *name);
        assert_eq!(guest.module.imports[index].name, *name);
        let mut calls = 0;
        let host = |_: sandbox_host::realm::HostCall<'_>| {
            calls += 1;
            Ok(())
        };
        guest.call_with(name, &[], host).expect("no trap");
        assert_eq!(calls, 1);
    }
}

fn an_exported_memory_has_one_index<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, r#"(module (memory (export "a") (export "b") 1))"#);
    let (a, b) = (guest.memory("a"), guest.memory("b"));
    assert_eq!(a, b);
    guest.realm.memory_grow(a, 3).expect("no maximum");
    assert_eq!(guest.memory("a"), a);
    assert_eq!(guest.memory("b"), a);
    assert_eq!(guest.realm.memory_count(), 1);
}

fn an_imported_memory_that_is_exported_keeps_its_index<E: Engine>(engine: &Arc<E>) {
    for initial in [0, 1] {
        let realm = Realm::new(engine);
        let first = realm.new_memory(pages(initial, 4)).expect("a good type");
        let second = realm.new_memory(pages(initial, 4)).expect("a good type");
        let wat = r#"(module (import "e" "m" (memory 0)) (export "m" (memory 0)))"#;
        assert_eq!(Guest::linked(&realm, None, wat, &[second]).memory("m"), second);
        assert_eq!(Guest::linked(&realm, None, wat, &[first]).memory("m"), first);
        assert_eq!(realm.memory_count(), 2);
    }
}

fn empty_memories_are_told_apart<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let wat = r#"(module (memory (export "m") 0))"#;
    let (one, two) = (Guest::linked(&realm, None, wat, &[]), Guest::linked(&realm, None, wat, &[]));
    let (m1, m2) = (one.memory("m"), two.memory("m"));
    assert_ne!(m1, m2);
    realm.memory_grow(m2, 1).expect("no maximum");
    assert_eq!(contents(&realm, m1).len(), 0);
    assert_eq!((one.memory("m"), two.memory("m")), (m1, m2));
}

fn memories_of_one_module_are_told_apart<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module
            (memory (export "a") 0) (memory (export "b") 0) (memory (export "c") 1) (memory (export "d") 1)
            (func (export "grow b") (drop (memory.grow 1 (i32.const 1)))))"#,
    );
    let mut indices: Vec<u32> = ["a", "b", "c", "d"].into_iter().map(|name| guest.memory(name)).collect();
    guest.call("grow b", &[]).expect("no trap");
    assert_eq!(contents(&guest.realm, indices[0]).len(), 0);
    assert_eq!(contents(&guest.realm, indices[1]).len(), 65_536);
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices.len(), 4);
}

fn what_is_no_memory_has_no_memory_index<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (func (export "f")) (global (export "g") i32 (i32.const 0)) (table (export "t") 1 funcref))"#,
    );
    for export in [0, 1, 2, 3, u32::MAX] {
        assert_eq!(guest.realm.exported_memory(guest.index, export), None);
    }
    assert_eq!(guest.realm.exported_memory(guest.index + 1, 0), None);
}

fn imported_and_own_memories_are_told_apart_whatever_their_names<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let [a, b] = [0, 1].map(|_| realm.new_memory(pages(0, 4)).expect("a good type"));
    let wat = r#"(module (import "e" "a" (memory 0)) (import "e" "f" (func)) (import "e" "b" (memory 0))
        (memory 0) (memory 0) (func (export "z")) (export "y" (memory 3)) (export "b" (memory 1)) (export "x" (memory 2))
        (export "c" (memory 3)) (export "a" (memory 0)) (export "b again" (memory 1)))"#;
    for imports in [[a, b], [b, a], [b, b]] {
        let guest = Guest::linked(&realm, None, wat, &imports);
        let before = realm.memory_count();
        assert_eq!(["a", "b", "b again"].map(|name| guest.memory(name)), [imports[0], imports[1], imports[1]]);
        let (third, fourth) = (guest.memory("x"), guest.memory("y"));
        assert_eq!(guest.memory("c"), fourth);
        let mut own = [third, fourth];
        own.sort_unstable();
        assert_eq!(own, [before, before + 1]);
    }
}

fn an_exported_memory_is_the_one_that_the_guest_uses<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (memory (export "m") 1 3) (data (i32.const 10) "hello")
            (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
            (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
            (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#,
    );
    let (realm, memory) = (&guest.realm, guest.memory("m"));
    assert_eq!(realm.memory_type(memory), Ok(pages(1, 3)));
    assert_eq!(contents(realm, memory)[10..15], *b"hello");
    realm.memory_write(memory, 65_535, &[200]).expect("in bounds");
    assert_eq!(guest.call("load", &[65_535]).expect("in bounds"), [200]);
    guest.call("grow", &[]).expect("no trap");
    guest.call("store", &[65_536, 201]).expect("in bounds");
    let mut both = [0; 2];
    realm.memory_read(memory, 65_535, &mut both).expect("in bounds");
    assert_eq!(both, [200, 201]);
}

fn memory_0_is_found_if_it_is_exported_and_not_imported<E: Engine>(engine: &Arc<E>) {
    let found = |wat: &str| {
        let module = Module::compile(&**engine, &wasm(wat)).expect("valid");
        module.exported_memory0.map(|place| module.exports[place].name.clone())
    };
    let wat = r#"(module (func $s) (start $s) (memory 1) (memory 1)
        (export "z" (memory 1)) (export "y" (memory 0)) (export "a" (func $s)))"#;
    assert_eq!(found(wat).as_deref(), Some("y"));
    assert_eq!(found(r#"(module (memory 1) (memory (export "second") 1))"#), None);
    assert_eq!(found(r#"(module (import "e" "m" (memory 1)) (memory (export "second") 1))"#), None);
    assert_eq!(found(r#"(module (import "e" "m" (memory 1)) (export "m" (memory 0)))"#), None);
}

const GLOBALS: &str = r#"(module
    (global (export "i32") (mut i32) (i32.const -2))
    (global (export "i64") (mut i64) (i64.const -3))
    (global (export "f32") (mut f32) (f32.const nan:0x200001))
    (global (export "f64") (mut f64) (f64.const -nan:0x4000000000001))
    (global (export "const") i64 (i64.const 7))
    (global (export "v128") (mut v128) (v128.const i64x2 1 2))
    (global (export "funcref") (mut funcref) (ref.null func))
    (global (export "externref") (mut externref) (ref.null extern))
    (func (export "f"))
    (func (export "read") (result i32 i64 f32 f64)
        (global.get 0) (global.get 1) (global.get 2) (global.get 3))
    (func (export "write") (param i32 i64 f32 f64)
        (global.set 0 (local.get 0)) (global.set 1 (local.get 1))
        (global.set 2 (local.get 2)) (global.set 3 (local.get 3))))"#;

fn globals_are_read_and_written<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, GLOBALS);
    let (i32, i64) = ((-2_i32 as u32).into(), -3_i64 as u64);
    let (f32, f64) = (0x7fa0_0001, 0xfff4_0000_0000_0001);
    for (name, first) in [("i32", i32), ("i64", i64), ("f32", f32), ("f64", f64)] {
        assert_eq!(guest.global(name), first, "{name}");
    }
    for (name, value) in [
        ("i32", 0x8000_0000),
        ("i64", 1 << 63),
        ("f32", 0xff80_0001),
        ("f64", 0x7ff0_0000_0000_0001),
        ("f32", 0x8000_0000),
        ("f64", 1),
    ] {
        let export = guest.export(name);
        assert!(guest.realm.global_set(guest.index, export, value).expect("mutable"), "{name}");
        assert_eq!(guest.global(name), value, "{name}");
    }
}

fn an_immutable_global_cannot_be_written<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, GLOBALS);
    assert_eq!(guest.global("const"), 7);
    let set = guest.realm.global_set(guest.index, guest.export("const"), 8);
    assert!(matches!(set, Err(GlobalError::Immutable)), "{set:?}");
    assert_eq!(guest.global("const"), 7);
}

fn what_is_no_numeric_global_is_not_read<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, GLOBALS);
    let get = |export| guest.realm.global_get(guest.index, export);
    let set = |export| guest.realm.global_set(guest.index, export, 0);
    for (name, ty) in [("v128", ValueType::V128), ("funcref", ValueType::FuncRef), ("externref", ValueType::ExternRef)]
    {
        let export = guest.export(name);
        assert_eq!(get(export), Ok(None), "{name}");
        assert!(matches!(set(export), Err(GlobalError::Type(of)) if of == ty), "{name}");
    }
    for export in [guest.export("f"), 1000, u32::MAX] {
        assert_eq!(get(export), Ok(None));
        assert!(matches!(set(export), Ok(false)));
    }
    assert_eq!(guest.realm.global_get(guest.index + 1, 0), Ok(None));
}

fn a_global_is_shared_with_the_guest<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, GLOBALS);
    let values = [1, u64::MAX - 1, 0xffc0_0002, 0x7ff0_0000_0000_0003];
    guest.call("write", &values).expect("no trap");
    for (name, value) in ["i32", "i64", "f32", "f64"].into_iter().zip(values) {
        assert_eq!(guest.global(name), value, "{name}");
        guest.realm.global_set(guest.index, guest.export(name), value ^ 1).expect("mutable");
    }
    assert_eq!(guest.call("read", &[]).expect("no trap"), values.map(|value| value ^ 1));
}

fn only_the_low_bits_of_a_slot_reach_a_small_global<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, GLOBALS);
    for name in ["i32", "f32"] {
        guest.realm.global_set(guest.index, guest.export(name), 0xdead_beef_0000_0005).expect("mutable");
        assert_eq!(guest.global(name), 5, "{name}");
    }
}
