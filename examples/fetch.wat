;; A guest that asks the outside world for a number. It looks like any blocking program: it calls `env.fetch` and goes on with the
;; answer. That the supervisor has to wait for a network meanwhile is nothing that it knows. `examples/fetch.ts` is its supervisor.
(module
  ;; Made by the supervisor with `components.newMemory`, one for each guest.
  (import "env" "memory" (memory 1 1))

  ;; Puts the number that belongs to $id into the guest's memory, as an i32 at $ptr, and returns the status of HTTP.
  (import "env" "fetch" (func $fetch (param $id i32) (param $ptr i32) (result i32)))

  ;; The number that belongs to $id, plus $id.
  (func (export "run") (param $id i32) (result i32)
    ;; The guest stays in this call for as long as the answer takes.
    (if (i32.ne (call $fetch (local.get $id) (i32.const 16)) (i32.const 200)) (then unreachable))
    (i32.add (i32.load (i32.const 16)) (local.get $id))))
