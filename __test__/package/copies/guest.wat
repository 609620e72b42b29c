(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "main") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "trap") unreachable)
  (func (export "spin") (loop $again (br $again))))
