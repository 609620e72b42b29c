//! Calls out of a guest: what the host gets and gives, how it fails, and what it may do meanwhile.

mod values;

mod failures;
mod imports;
mod nested;
mod store_access;

/// A guest that calls its host, and functions that the host may call meanwhile.
const CALLS_OUT: &str = r#"(module (import "e" "f" (func $f (param i32) (result i32)))
    (memory (export "m") 1 4) (global $g (export "g") (mut i64) (i64.const 0))
    (func (export "run") (param i32) (result i32)
        (global.set $g (i64.const 1))
        (call $f (local.get 0))
        (global.set $g (i64.const 2)))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "size") (result i32) memory.size)
    (func (export "fail") unreachable)
    (func (export "write then run") (param i32) (result i32)
        (i32.store8 (local.get 0) (i32.const 7))
        (drop (call $f (local.get 0)))
        (i32.load8_u (i32.add (local.get 0) (i32.const 1))))
    (export "out" (func $f)))"#;
