;; A supervisor that is itself WebAssembly, like the runtime in the node of a Gear-like chain. It does by hand what the Rust crate
;; `gear-sandbox` does, so that you can see every byte. `examples/wasm_supervisor.ts` runs it in V8.
(module
  ;; The host functions, which a `SandboxHost` provides. An i64 packs a pointer and a length: len << 32 | ptr.
  (import "env" "ext_sandbox_memory_new_version_1"
    (func $memory_new (param $initial i32) (param $maximum i32) (result i32)))
  (import "env" "ext_sandbox_memory_get_version_1"
    (func $memory_get (param $memory i32) (param $offset i32) (param $buf_ptr i32) (param $buf_len i32) (result i32)))
  (import "env" "ext_sandbox_memory_set_version_1"
    (func $memory_set (param $memory i32) (param $offset i32) (param $val_ptr i32) (param $val_len i32) (result i32)))
  (import "env" "ext_sandbox_memory_teardown_version_1" (func $memory_teardown (param $memory i32)))
  (import "env" "ext_sandbox_instantiate_version_2"
    (func $instantiate (param $dispatch_thunk i32) (param $wasm i64) (param $env_def i64) (param $state i32) (result i32)))
  (import "env" "ext_sandbox_invoke_version_1"
    (func $invoke (param $instance i32) (param $name i64) (param $args i64) (param $ret_ptr i32) (param $ret_len i32)
      (param $state i32) (result i32)))
  (import "env" "ext_sandbox_get_global_val_version_1"
    (func $get_global_val (param $instance i32) (param $name i64) (result i64)))
  (import "env" "ext_sandbox_set_global_val_version_1"
    (func $set_global_val (param $instance i32) (param $name i64) (param $value i64) (result i32)))
  (import "env" "ext_sandbox_instance_teardown_version_1" (func $instance_teardown (param $instance i32)))

  ;; The supervisor's own import, for output.
  (import "console" "print" (func $print (param $ptr i32) (param $len i32)))

  (memory (export "memory") 1)

  ;; The host finds the dispatch thunk in this table, and the thunk finds the supervisor functions in it.
  (type $supervisor_function (func (param $gas i64) (param $args i32) (result i64)))
  (table (export "table") funcref (elem $dispatch_thunk $log $square))

  ;; The layout of the memory below the heap:
  ;;   0    the index of the guest's memory         16   the state: the number of calls that the guest has made
  ;;   32   the arguments of an invoke              64   the buffer for a return value
  ;;   128  a name, and the value for a global      256  the environment definition       512  text from the guest
  (data (i32.const 128) "gear_gas" "handle")  ;; at 128 and 136

  ;; The environment definition, encoded with SCALE, lists what the guest may import. A string is its length times 4, then its bytes.
  (data (i32.const 256)
    "\0c"                             ;; three entries
    "\0cenv" "\18memory" "\02\00\00\00\00"  ;; env.memory: a memory; `run` puts its index here, at 256 + 13
    "\0cenv" "\0clog" "\01\01\00\00\00"     ;; env.log: the supervisor function 1
    "\0cenv" "\18square" "\01\02\00\00\00") ;; env.square: the supervisor function 2

  ;; A minimal allocator. Its mark moves up with each allocation, and back to the start when nothing is allocated any more. The host
  ;; calls both functions, for the arguments of a guest's call and for the supervisor's answer.
  (global $heap (mut i32) (i32.const 4096))
  (global $allocations (mut i32) (i32.const 0))
  (func $allocate (export "allocate") (param $size i32) (result i32)
    (local $ptr i32)
    (local.set $ptr (global.get $heap))
    (global.set $heap (i32.add (local.get $ptr) (local.get $size)))
    (global.set $allocations (i32.add (global.get $allocations) (i32.const 1)))
    (local.get $ptr))
  (func $deallocate (export "deallocate") (param $ptr i32)
    (global.set $allocations (i32.sub (global.get $allocations) (i32.const 1)))
    (if (i32.eqz (global.get $allocations)) (then (global.set $heap (i32.const 4096)))))

  ;; Every call of a guest arrives here. The parameters are the arguments, encoded as a SCALE `Vec<Value>`, the state that was passed
  ;; to `instantiate` or `invoke`, and the index from the environment definition. Under version 2 the first argument is the guest's gas,
  ;; an i64. The count takes one byte and the value's type another, so the gas begins at byte 2, and the next argument at byte 10.
  (func $dispatch_thunk (param $args_ptr i32) (param $args_len i32) (param $state i32) (param $func_idx i32) (result i64)
    (i32.store (local.get $state) (i32.add (i32.load (local.get $state)) (i32.const 1)))
    (call_indirect (type $supervisor_function)
      (i64.load align=1 (i32.add (local.get $args_ptr) (i32.const 2)))
      (i32.add (local.get $args_ptr) (i32.const 10))
      (local.get $func_idx)))

  ;; env.log(ptr: i32, len: i32): prints text from the guest's memory. It costs 10 gas.
  (func $log (type $supervisor_function)
    (drop (call $memory_get
      (i32.load (i32.const 0))
      (i32.load align=1 (i32.add (local.get 1) (i32.const 1)))
      (i32.const 512)
      (i32.load align=1 (i32.add (local.get 1) (i32.const 6)))))
    (call $print (i32.const 512) (i32.load align=1 (i32.add (local.get 1) (i32.const 6))))
    (call $ok (i64.sub (local.get 0) (i64.const 10)) (i32.const 0) (i32.const 0)))

  ;; env.square(n: i32) -> i32: returns n * n. It costs 100 gas. A guest that has less gets an error, and traps.
  (func $square (type $supervisor_function)
    (local $n i32)
    (if (i64.lt_s (local.get 0) (i64.const 100)) (then (return (call $host_error))))
    (local.set $n (i32.load align=1 (i32.add (local.get 1) (i32.const 1))))
    (call $ok
      (i64.sub (local.get 0) (i64.const 100))
      (i32.const 1)
      (i32.mul (local.get $n) (local.get $n))))

  ;; Encodes `Ok(WasmReturnValue { gas, inner })`, where `inner` is `Value(I32(value))` or `Unit`. The host frees it.
  (func $ok (param $gas i64) (param $has_value i32) (param $value i32) (result i64)
    (local $ptr i32)
    (local.set $ptr (call $allocate (i32.const 15)))
    (i32.store8 (local.get $ptr) (i32.const 0))                  ;; Ok
    (i64.store offset=1 align=1 (local.get $ptr) (local.get $gas))
    (i32.store8 offset=9 (local.get $ptr) (local.get $has_value)) ;; 0 Unit, 1 Value
    (i32.store8 offset=10 (local.get $ptr) (i32.const 0))         ;; I32
    (i32.store offset=11 align=1 (local.get $ptr) (local.get $value))
    (call $packed (local.get $ptr) (select (i32.const 15) (i32.const 10) (local.get $has_value))))

  ;; Encodes `Err(HostError)`.
  (func $host_error (result i64)
    (local $ptr i32)
    (local.set $ptr (call $allocate (i32.const 1)))
    (i32.store8 (local.get $ptr) (i32.const 1))
    (call $packed (local.get $ptr) (i32.const 1)))

  ;; A thunk's result is packed in the opposite order from the arguments of host functions: ptr << 32 | len.
  (func $packed (param $ptr i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))

  (func $slice (param $ptr i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $len)) (i64.const 32)) (i64.extend_i32_u (local.get $ptr))))

  ;; Runs `handle(n)` of the guest whose binary is at $wasm_ptr, with $gas gas. Returns the guest's result, -1 if the guest cannot be
  ;; instantiated, or -3 if it trapped.
  (func (export "run") (param $wasm_ptr i32) (param $wasm_len i32) (param $n i32) (param $gas i64) (result i32)
    (local $instance i32) (local $code i32)
    (i32.store (i32.const 16) (i32.const 0))

    ;; Make a memory of one page, write a name into it, and put the memory's index into the environment definition.
    (i32.store (i32.const 0) (call $memory_new (i32.const 1) (i32.const 1)))
    (drop (call $memory_set (i32.load (i32.const 0)) (i32.const 0) (i32.const 136) (i32.const 6)))
    (i32.store align=1 (i32.const 269) (i32.load (i32.const 0)))

    (local.set $instance (call $instantiate
      (i32.const 0)
      (call $slice (local.get $wasm_ptr) (local.get $wasm_len))
      (call $slice (i32.const 256) (i32.const 46))
      (i32.const 16)))
    (if (i32.lt_s (local.get $instance) (i32.const 0)) (then
      (call $memory_teardown (i32.load (i32.const 0)))
      (return (local.get $instance))))

    ;; gear_gas = I64(gas)
    (i32.store8 (i32.const 144) (i32.const 1))
    (i64.store align=1 (i32.const 145) (local.get $gas))
    (drop (call $set_global_val (local.get $instance)
      (call $slice (i32.const 128) (i32.const 8))
      (call $slice (i32.const 144) (i32.const 9))))

    ;; handle([I32(n)]): the arguments are a `Vec<Value>` with one value. The result is a `ReturnValue`: 01 means a value, 00 an i32.
    (i32.store16 (i32.const 32) (i32.const 0x0004))
    (i32.store align=1 (i32.const 34) (local.get $n))
    (local.set $code (call $invoke (local.get $instance)
      (call $slice (i32.const 136) (i32.const 6))
      (call $slice (i32.const 32) (i32.const 6))
      (i32.const 64) (i32.const 10)
      (i32.const 16)))
    (if (i32.eqz (local.get $code)) (then (local.set $code (i32.load align=1 (i32.const 66)))))

    (global.set $gas_left (call $gas_of (local.get $instance)))
    (call $instance_teardown (local.get $instance))
    (call $memory_teardown (i32.load (i32.const 0)))
    (local.get $code))

  ;; Reads the guest's gas global: `Some(I64(…))`, in a buffer that the host allocated and the supervisor frees.
  (func $gas_of (param $instance i32) (result i64)
    (local $ptr i32) (local $gas i64)
    (local.set $ptr (i32.wrap_i64 (call $get_global_val (local.get $instance) (call $slice (i32.const 128) (i32.const 8)))))
    (local.set $gas (i64.load offset=2 align=1 (local.get $ptr)))
    (call $deallocate (local.get $ptr))
    (local.get $gas))

  (global $gas_left (mut i64) (i64.const 0))
  (func (export "gas_left") (result i64) (global.get $gas_left))
  (func (export "calls") (result i32) (i32.load (i32.const 16)))
  (func (export "allocated") (result i32) (global.get $allocations)))
