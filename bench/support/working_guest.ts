/** A guest that only computes: calls, the tightest loop there is, and loops over memory. */

export const WORKING_GUEST = `(module
  (memory 1)
  (func $fib (export "calls") (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add
        (call $fib (i32.sub (local.get 0) (i32.const 1)))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "loops") (param $times i32) (result i32)
    (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (i32.xor (local.get $times) (i32.const 0x5555))))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    (local.get $sum))
  (func (export "sieve") (param $end i32) (result i32)
    (local $at i32) (local $multiple i32) (local $count i32)
    (memory.fill (i32.const 0) (i32.const 0) (local.get $end))
    (local.set $at (i32.const 2))
    (loop $next
      (if (i32.eqz (i32.load8_u (local.get $at)))
        (then
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (local.set $multiple (i32.mul (local.get $at) (i32.const 2)))
          (block $done
            (loop $mark
              (br_if $done (i32.ge_u (local.get $multiple) (local.get $end)))
              (i32.store8 (local.get $multiple) (i32.const 1))
              (local.set $multiple (i32.add (local.get $multiple) (local.get $at)))
              (br $mark)))))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (local.get $end))))
    (local.get $count)))`;

/** The exports, with an argument that takes them about a millisecond in the interpreter. */
export const WORK: readonly (readonly [what: string, name: string, argument: number])[] = [
  ['calls: fib', 'calls', 18],
  ['the tightest loop', 'loops', 50_000],
  ['loops over memory: a sieve', 'sieve', 20_000],
];
