//! How instances are linked and initialised, and what is refused.

use std::{rc::Rc, sync::Arc};

use sandbox_host::{
    engine::Engine,
    error::{InstantiateError, TrapCode},
    module::Module,
    realm::{HostCall, Import, Realm},
};

use crate::guest::{Guest, compile, contents, pages, wasm};

on_both_engines![
    imports_link_under_any_module_name,
    two_imports_of_one_name_are_two_imports,
    host_functions_and_memories_may_come_in_any_order,
    several_memories_may_be_imported,
    a_wrong_number_of_imports_is_refused,
    imports_of_a_wrong_kind_are_refused,
    a_memory_that_does_not_fit_is_refused,
    a_memory_fits_by_its_size_of_now,
    a_data_segment_out_of_bounds_is_refused_with_its_trap,
    an_element_segment_out_of_bounds_is_refused_with_its_trap,
    segments_that_end_at_the_end_are_in_bounds,
    segments_before_the_one_out_of_bounds_are_written,
    passive_segments_wait_for_the_guest,
    data_segments_initialise_an_imported_memory,
    a_refused_instance_leaves_the_realm_usable,
    instances_of_one_module_have_their_own_state,
    many_instances_live_in_one_realm,
    an_instance_without_imports_or_exports_is_fine,
    what_is_no_module_is_refused,
    an_invalid_function_body_is_refused_when_compiled,
    a_refusal_says_why,
    an_own_memory_too_large_to_exist_is_refused,
];

on_both_engines_alone![a_module_of_another_engine_is_refused];

fn link<E: Engine>(realm: &Rc<Realm<E>>, wat: &str, imports: &[Import]) -> Result<u32, InstantiateError> {
    realm.instantiate(&compile(&**realm.engine(), wat), None, imports)
}

fn assert_not_linked(result: Result<u32, InstantiateError>) -> String {
    match result {
        Err(InstantiateError::Link(message)) => message,
        other => panic!("{other:?}"),
    }
}

fn imports_link_under_any_module_name<E: Engine>(engine: &Arc<E>) {
    for (module, name) in [("env", "f"), ("", ""), ("名前", "f g"), ("wasi_snapshot_preview1", "fd_write"), ("0", "1")]
    {
        let wat = format!(
            r#"(module (import "{module}" "{name}" (func $f (result i32))) (import "{module}" "m" (memory 1))
                (func (export "run") (result i32) (i32.add (call $f) (i32.load8_u (i32.const 3)))))"#
        );
        let realm = Realm::new(engine);
        let memory = realm.new_memory(pages(1, None)).expect("a good type");
        realm.memory_write(memory, 3, &[2]).expect("in bounds");
        let guest = Guest::linked(&realm, None, &wat, &[memory]);
        let results = guest.call_with("run", &[], |call: HostCall<'_>| {
            call.slots[0] = 40;
            Ok(())
        });
        assert_eq!(results.expect("no trap"), [42]);
    }
}

fn two_imports_of_one_name_are_two_imports<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (import "e" "f" (func (param i32) (result i32))) (import "e" "f" (func (result i64)))
            (func (export "first") (result i32) (call 0 (i32.const 5)))
            (func (export "second") (result i64) (call 1)))"#,
    );
    let host = |call: HostCall<'_>| {
        call.slots[0] += u64::from(call.import) * 100;
        Ok(())
    };
    assert_eq!(guest.call_with("first", &[], host).expect("no trap"), [5]);
    assert_eq!(guest.call_with("second", &[], host).expect("no trap")[0] / 100, 1);
}

fn host_functions_and_memories_may_come_in_any_order<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, None)).expect("a good type");
    let guest = Guest::linked(
        &realm,
        None,
        r#"(module (import "e" "a" (func)) (import "e" "m" (memory 1)) (import "e" "b" (func))
            (func (export "b") (call 1)))"#,
        &[memory],
    );
    let mut called = None;
    let host = |call: HostCall<'_>| {
        called = Some((call.instance, call.import));
        Ok(())
    };
    guest.call_with("b", &[], host).expect("no trap");
    assert_eq!(called, Some((guest.index, 1)), "the place is counted among the functions only");
}

fn several_memories_may_be_imported<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let one = realm.new_memory(pages(1, None)).expect("a good type");
    let two = realm.new_memory(pages(2, None)).expect("a good type");
    let wat = r#"(module (import "e" "1" (memory 1)) (import "e" "2" (memory 1))
        (func (export "sizes") (result i32 i32) (memory.size 0) (memory.size 1))
        (func (export "store") (i32.store8 1 (i32.const 4) (i32.const 9))))"#;
    let guest = Guest::linked(&realm, None, wat, &[two, one]);
    assert_eq!(guest.call("sizes", &[]).expect("no trap"), [2, 1]);
    guest.call("store", &[]).expect("in bounds");
    assert_eq!((contents(&realm, one)[4], contents(&realm, two)[4]), (9, 0));
}

fn a_wrong_number_of_imports_is_refused<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let wat = r#"(module (import "e" "a" (func)) (import "e" "b" (func)))"#;
    for given in [0, 1, 3] {
        let message = assert_not_linked(link(&realm, wat, &vec![Import::Host; given]));
        assert_eq!(message, format!("the module has 2 imports, {given} are given"));
    }
    link(&realm, wat, &[Import::Host, Import::Host]).expect("the right number");
}

fn imports_of_a_wrong_kind_are_refused<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = Import::Memory(realm.new_memory(pages(1, None)).expect("a good type"));
    for (import, given) in [
        ("(func)", memory.clone()),
        ("(memory 1)", Import::Host),
        ("(global i32)", Import::Host),
        ("(global (mut i64))", memory.clone()),
        ("(table 1 funcref)", Import::Host),
        ("(table 1 externref)", memory.clone()),
    ] {
        let message = assert_not_linked(link(&realm, &format!(r#"(module (import "mod" "name" {import}))"#), &[given]));
        assert!(message.contains("mod") && message.contains("name"), "{message}");
    }
}

fn a_memory_that_does_not_fit_is_refused<E: Engine>(engine: &Arc<E>) {
    for (given, wanted, fits) in [
        (pages(1, None), "1", true),
        (pages(2, 5), "1", true),
        (pages(2, 5), "2 5", true),
        (pages(2, 5), "1 9", true),
        (pages(0, 0), "0 0", true),
        (pages(1, None), "2", false),
        (pages(1, 5), "2", false),
        (pages(1, None), "1 5", false),
        (pages(1, 6), "1 5", false),
        (pages(0, None), "1", false),
        (pages(1, None), "1 65536", false),
    ] {
        let realm = Realm::new(engine);
        let memory = realm.new_memory(given).expect("a good type");
        let linked =
            link(&realm, &format!(r#"(module (import "e" "m" (memory {wanted})))"#), &[Import::Memory(memory)]);
        match fits {
            true => assert!(linked.is_ok(), "{given:?} {wanted} {linked:?}"),
            false => assert!(!assert_not_linked(linked).is_empty(), "{given:?} {wanted}"),
        }
    }
}

fn a_memory_fits_by_its_size_of_now<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, 5)).expect("a good type");
    let wat = r#"(module (import "e" "m" (memory 3 5)))"#;
    assert_not_linked(link(&realm, wat, &[Import::Memory(memory)]));
    realm.memory_grow(memory, 2).expect("below the maximum");
    link(&realm, wat, &[Import::Memory(memory)]).expect("large enough now");
}

fn assert_segment(result: Result<u32, InstantiateError>, code: TrapCode) {
    match result {
        Err(InstantiateError::Segment(trap)) => {
            assert_eq!(trap.code, code);
            assert_eq!(trap.message, code.message());
        }
        other => panic!("{other:?}"),
    }
}

fn a_data_segment_out_of_bounds_is_refused_with_its_trap<E: Engine>(engine: &Arc<E>) {
    for data in [
        r#"(memory 1) (data (i32.const 65536) "a")"#,
        r#"(memory 1) (data (i32.const 65535) "ab")"#,
        r#"(memory 1) (data (i32.const -1) "a")"#,
        r#"(memory 1) (data (i32.const 65537) "")"#,
        r#"(memory 0) (data (i32.const 0) "a")"#,
        r#"(memory 1) (memory 0) (data (memory 1) (i32.const 0) "a")"#,
        r#"(memory 1) (data (i32.add (i32.const 65536) (i32.const 1)) "a")"#,
    ] {
        assert_segment(link(&Realm::new(engine), &format!("(module {data})"), &[]), TrapCode::MemoryOutOfBounds);
    }
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, None)).expect("a good type");
    let wat = r#"(module (import "e" "m" (memory 1)) (data (i32.const 65530) "too long"))"#;
    assert_segment(link(&realm, wat, &[Import::Memory(memory)]), TrapCode::MemoryOutOfBounds);
}

fn an_element_segment_out_of_bounds_is_refused_with_its_trap<E: Engine>(engine: &Arc<E>) {
    for elements in [
        "(table 1 funcref) (elem (i32.const 1) $f)",
        "(table 1 funcref) (elem (i32.const 0) $f $f)",
        "(table 1 funcref) (elem (i32.const -1) $f)",
        "(table 1 funcref) (elem (i32.const 2) func)",
        "(table 0 funcref) (elem (i32.const 0) $f)",
        "(table 1 externref) (elem (table 0) (i32.const 1) externref (ref.null extern))",
    ] {
        assert_segment(
            link(&Realm::new(engine), &format!("(module (func $f) {elements})"), &[]),
            TrapCode::TableOutOfBounds,
        );
    }
}

fn segments_that_end_at_the_end_are_in_bounds<E: Engine>(engine: &Arc<E>) {
    for fits in [
        r#"(memory 1) (data (i32.const 65535) "a")"#,
        r#"(memory 1) (data (i32.const 65536) "")"#,
        r#"(memory 0) (data (i32.const 0) "")"#,
        "(table 2 funcref) (elem (i32.const 1) $f)",
        "(table 2 funcref) (elem (i32.const 2) func)",
        "(table 0 funcref) (elem (i32.const 0) func)",
    ] {
        link(&Realm::new(engine), &format!("(module (func $f) {fits})"), &[]).expect(fits);
    }
}

fn segments_before_the_one_out_of_bounds_are_written<E: Engine>(engine: &Arc<E>) {
    // https://webassembly.github.io/spec/core/exec/modules.html#instantiation, steps for active segments: in order.
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, None)).expect("a good type");
    let wat = r#"(module (import "e" "m" (memory 1))
        (data (i32.const 0) "first") (data (i32.const 65536) "second") (data (i32.const 100) "third"))"#;
    assert_segment(link(&realm, wat, &[Import::Memory(memory)]), TrapCode::MemoryOutOfBounds);
    let bytes = contents(&realm, memory);
    assert_eq!(bytes[..5], *b"first");
    assert_eq!(bytes[100..105], [0; 5]);
}

fn passive_segments_wait_for_the_guest<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(
        engine,
        r#"(module (memory (export "m") 1) (data $d "passive")
            (func (export "init") (param i32) (memory.init $d (local.get 0) (i32.const 0) (i32.const 7)))
            (func (export "drop") (data.drop $d)))"#,
    );
    let memory = guest.memory("m");
    assert_eq!(contents(&guest.realm, memory)[..7], [0; 7]);
    guest.call("init", &[0]).expect("in bounds");
    assert_eq!(contents(&guest.realm, memory)[..7], *b"passive");
    guest.call("drop", &[]).expect("no trap");
    assert_eq!(guest.trap("init", &[0]), TrapCode::MemoryOutOfBounds);
}

fn data_segments_initialise_an_imported_memory<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let memory = realm.new_memory(pages(1, None)).expect("a good type");
    realm.memory_write(memory, 0, b"before").expect("in bounds");
    Guest::linked(&realm, None, r#"(module (import "e" "m" (memory 1)) (data (i32.const 2) "XY"))"#, &[memory]);
    assert_eq!(contents(&realm, memory)[..7], *b"beXYre\0");
}

fn a_refused_instance_leaves_the_realm_usable<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let good = r#"(module (func (export "f") (result i32) (i32.const 7)))"#;
    let first = Guest::linked(&realm, None, good, &[]);
    assert!(link(&realm, r#"(module (memory 1) (data (i32.const 70000) "a"))"#, &[]).is_err());
    assert!(link(&realm, r#"(module (import "e" "f" (func)))"#, &[]).is_err());
    assert!(link(&realm, r#"(module (import "e" "g" (global i32)))"#, &[Import::Host]).is_err());
    let second = Guest::linked(&realm, None, good, &[]);
    assert_ne!(first.index, second.index);
    for guest in [first, second] {
        assert_eq!(guest.call("f", &[]).expect("no trap"), [7]);
    }
}

fn instances_of_one_module_have_their_own_state<E: Engine>(engine: &Arc<E>) {
    let module = compile(
        &**engine,
        r#"(module (global $g (mut i32) (i32.const 0)) (memory (export "m") 1)
            (func (export "count") (result i32)
                (global.set $g (i32.add (global.get $g) (i32.const 1)))
                (i32.store (i32.const 0) (global.get $g))
                (global.get $g)))"#,
    );
    let realm = Realm::new(engine);
    let guests: Vec<_> = (0..3).map(|_| Guest::of(&realm, &module, None, &[])).collect();
    for (calls, guest) in guests.iter().enumerate() {
        for call in 0..=calls as u64 {
            assert_eq!(guest.call("count", &[]).expect("no trap"), [call + 1]);
        }
    }
    for (calls, guest) in guests.iter().enumerate() {
        assert_eq!(contents(&realm, guest.memory("m"))[0] as usize, calls + 1);
    }
}

fn many_instances_live_in_one_realm<E: Engine>(engine: &Arc<E>) {
    let realm = Realm::new(engine);
    let module = compile(
        &**engine,
        r#"(module (import "e" "who" (func (result i32))) (func (export "who") (result i32) (call 0)))"#,
    );
    let guests: Vec<_> = (0..500).map(|_| Guest::of(&realm, &module, None, &[])).collect();
    for guest in guests.iter().rev() {
        let answer = |call: HostCall<'_>| {
            call.slots[0] = call.instance.into();
            Ok(())
        };
        assert_eq!(guest.call_with("who", &[], answer).expect("no trap"), [u64::from(guest.index)]);
    }
}

fn an_instance_without_imports_or_exports_is_fine<E: Engine>(engine: &Arc<E>) {
    let guest = Guest::new(engine, "(module)");
    assert!(guest.module.imports.is_empty() && guest.module.exports.is_empty());
    assert!(guest.realm.has_instances());
    assert!(!Realm::new(engine).has_instances());
}

fn what_is_no_module_is_refused<E: Engine>(engine: &Arc<E>) {
    for bytes in [
        &b""[..],
        b"\0",
        b"\0asm",
        b"\0asm\x01\0\0",
        b"\0asm\x02\0\0\0",
        // A component.
        b"\0asm\x0d\0\x01\0",
        b"(module)",
        b"\x7fELF\x02\x01\x01\0",
        &[0xff; 100],
        &[0; 100],
    ] {
        assert!(Module::compile(&**engine, bytes).is_err(), "{bytes:?}");
    }
    assert!(Module::compile(&**engine, b"\0asm\x01\0\0\0").is_ok());
}

fn an_invalid_function_body_is_refused_when_compiled<E: Engine>(engine: &Arc<E>) {
    for body in [
        "(result i32)",
        "(result i32) (i64.const 0)",
        "(i32.add (i32.const 0))",
        "i32.add drop",
        "(local.get 0)",
        "(global.get 0)",
        "(call 5)",
        "(br 5)",
        "(i32.load (i32.const 0)) drop",
        "(memory.size) drop",
        "(call_indirect (i32.const 0))",
        "(i32.const 0)",
        "(if (i64.const 0) (then))",
    ] {
        let valid_text = wat::parse_str(format!("(module (func {body}))")).expect(body);
        assert!(Module::compile(&**engine, &valid_text).is_err(), "{body}");
    }
}

fn a_refusal_says_why<E: Engine>(engine: &Arc<E>) {
    for wat in ["(module (func (result i32)))", "(module (func (export \"a\") (call 9)))"] {
        let error = Module::compile(&**engine, &wasm(wat)).err().expect("invalid").to_string();
        assert!(error.len() > 10, "{error}");
    }
}

fn an_own_memory_too_large_to_exist_is_refused<E: Engine>(engine: &Arc<E>) {
    // 65537 pages, which the text format would not encode either.
    let mut binary = wasm("(module (memory 65535))");
    let at = binary.windows(3).position(|bytes| bytes == [0xff, 0xff, 0x03]).expect("65535 as LEB128");
    binary[at..at + 3].copy_from_slice(&[0x81, 0x80, 0x04]);
    assert!(Module::compile(&**engine, &binary).is_err());
}

fn a_module_of_another_engine_is_refused<E: Engine>(engine: &Arc<E>) {
    // Its code belongs to its engine, and may be gone together with it.
    let other = crate::guest::engine::<E>();
    let module = compile(&*other, r#"(module (func (export "f") unreachable))"#);
    drop(other);
    assert_not_linked(Realm::new(engine).instantiate(&module, None, &[]));
}
