;; A guest that asks the outside world for a number. It looks like any blocking program: it calls `env.fetch` and continues with the
;; answer. It does not know that the supervisor waits for a network meanwhile. `examples/fetch.ts` is its supervisor.
(module
  ;; The supervisor makes one memory for each guest with `components.newMemory`.
  (import "env" "memory" (memory 1 1))

  ;; Writes the number for $id into the guest's memory, as an i32 at $ptr, and returns the HTTP status.
  (import "env" "fetch" (func $fetch (param $id i32) (param $ptr i32) (result i32)))

  ;; Returns the number for $id, plus $id.
  (func (export "run") (param $id i32) (result i32)
    ;; The guest stays in this call until the answer arrives.
    (if (i32.ne (call $fetch (local.get $id) (i32.const 16)) (i32.const 200)) (then unreachable))
    (i32.add (i32.load (i32.const 16)) (local.get $id))))
