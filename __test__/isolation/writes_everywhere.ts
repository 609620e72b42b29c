// A guest that writes wherever it can, so that another one would find it: in memories, tables, globals, locals and on the stack.

export const PAGE = 65536;
export const PATTERN = 0x5a;
export const PATTERN_64 = '0x5a5a5a5a5a5a5a5a';

const LOCALS = 200;
const each = (from: number, text: (index: number) => string): string =>
  Array.from({ length: LOCALS }, (_, i) => text(from + i)).join('\n');

/** Writes the pattern wherever it can, and looks whether it finds anything but zeros where nobody has written yet. */
export const WRITES_EVERYWHERE = `(module
  (import "env" "memory" (memory $given 1 8))
  (import "env" "ask" (func $ask (param i64) (result i64)))
  (memory $own (export "own") 1 8)
  (table $table (export "table") 4 64 funcref)
  (table $extern 4 64 externref)
  (global $global (export "global") (mut i64) (i64.const 0))
  (global (export "reference") (mut funcref) (ref.null func))
  (elem declare func $deep)

  (func (export "grow") (result i32)
    (i32.add (memory.grow $given (i32.const 3)) (memory.grow $own (i32.const 3))))

  (func (export "fill")
    (memory.fill $given (i32.const 0) (i32.const ${PATTERN}) (i32.const ${4 * PAGE}))
    (memory.fill $own (i32.const 0) (i32.const ${PATTERN}) (i32.const ${4 * PAGE}))
    (drop (table.grow $table (ref.func $deep) (i32.const 32)))
    (table.fill $table (i32.const 0) (ref.func $deep) (i32.const 36))
    (global.set $global (i64.const ${PATTERN_64}))
    (global.set 1 (ref.func $deep))
    (drop (call $deep (i32.const 40) (i64.const ${PATTERN_64}) (f64.reinterpret_i64 (i64.const ${PATTERN_64})))))

  ;; Fills the stack, also above where it calls the supervisor.
  (func $deep (param $depth i32) (param $value i64) (param f64) (result i64)
    (local ${'i64 '.repeat(LOCALS)}) (local ${'f64 '.repeat(LOCALS)}) (local ${'v128 '.repeat(LOCALS)})
    ${each(3, (i) => `(local.set ${i} (local.get $value))`)}
    ${each(3 + LOCALS, (i) => `(local.set ${i} (local.get 2))`)}
    ${each(3 + 2 * LOCALS, (i) => `(local.set ${i} (i64x2.splat (local.get $value)))`)}
    (if (local.get $depth) (then
      (drop (call $deep (i32.sub (local.get $depth) (i32.const 1)) (local.get $value) (local.get 2)))
      (drop (call $ask (local.get $value)))))
    (i64.const 0)
    ${each(3, (i) => `(i64.or (local.get ${i}))`)}
    ${each(3 + LOCALS, (i) => `(i64.or (i64.reinterpret_f64 (local.get ${i})))`)}
    ${each(3 + 2 * LOCALS, (i) => `(i64.or (i64x2.extract_lane 1 (local.get ${i})))`)})

  ;; Every local of a function that nobody has set, at some depths.
  (func $locals (export "locals") (param $depth i32) (result i64)
    (local ${'i64 '.repeat(LOCALS)}) (local ${'f64 '.repeat(LOCALS)}) (local ${'v128 '.repeat(LOCALS)})
    (local ${'i32 '.repeat(LOCALS)}) (local funcref externref)
    (if (result i64) (local.get $depth)
      (then (call $locals (i32.sub (local.get $depth) (i32.const 1))))
      (else (i64.const 0)))
    ${each(1, (i) => `(i64.or (local.get ${i}))`)}
    ${each(1 + LOCALS, (i) => `(i64.or (i64.reinterpret_f64 (local.get ${i})))`)}
    ${each(
      1 + 2 * LOCALS,
      (i) => `(i64.or (i64x2.extract_lane 0 (local.get ${i})))
      (i64.or (i64x2.extract_lane 1 (local.get ${i})))`,
    )}
    ${each(1 + 3 * LOCALS, (i) => `(i64.or (i64.extend_i32_u (local.get ${i})))`)}
    (i64.or (i64.extend_i32_u (i32.eqz (ref.is_null (local.get ${1 + 4 * LOCALS})))))
    (i64.or (i64.extend_i32_u (i32.eqz (ref.is_null (local.get ${2 + 4 * LOCALS}))))))

  ;; How many elements of the tables are not null, those that are new included.
  (func (export "elements") (result i32) (local $i i32) (local $found i32)
    (drop (table.grow $table (ref.null func) (i32.const 32)))
    (drop (table.grow $extern (ref.null extern) (i32.const 32)))
    (loop $next
      (local.set $found (i32.add (local.get $found) (i32.eqz (ref.is_null (table.get $table (local.get $i))))))
      (local.set $found (i32.add (local.get $found) (i32.eqz (ref.is_null (table.get $extern (local.get $i))))))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 36))))
    (i32.add (local.get $found) (i32.eqz (ref.is_null (global.get 1))))))`;
