/**
 * The complete example of the README: a guest that logs through its supervisor, on both engines.
 * `node --require ts-node/register examples/quick_start.ts`
 */

import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  SandboxBackend,
  SandboxComponents,
  TrapError,
  Value,
} from 'sandbox-host';
import wabt from 'wabt';

const GUEST = `(module
  (import "env" "log" (func $log (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "hello from the guest")
  (func (export "main") (param $n i32) (result i32)
    (call $log (i32.const 8) (i32.const 20))
    (i32.div_u (i32.const 1000) (local.get $n))))`;

async function main(): Promise<void> {
  const { parseWat } = await wabt();
  const wasm = parseWat('guest.wat', GUEST).toBinary({}).buffer;

  for (const backend of Object.values(SandboxBackend)) {
    const components = new SandboxComponents(backend);
    const supervisor = new JsSupervisor();
    const log = supervisor.define(([ptr, len], { memory }) => {
      const bytes = memory?.read(Value.toNumber(ptr), Value.toNumber(len));
      console.log(`${backend}: ${Buffer.from(bytes ?? []).toString()}`);
    });

    const definition = new EnvironmentDefinitionBuilder().addHostFunc('env', 'log', log).encode();
    const env = GuestEnvironment.decode(components, definition);
    const index = components
      .instantiate(Instantiate.Version1, wasm, env, supervisor)
      .register(components, undefined);
    const instance = components.instance(index);

    console.log(`${backend}: ${JSON.stringify(instance.invoke('main', [Value.I32(42)], supervisor))}`);
    try {
      instance.invoke('main', [Value.I32(0)], supervisor);
    } catch (error) {
      if (!(error instanceof TrapError)) throw error;
      console.log(`${backend}: ${error.code} ${error.trap}`);
    }
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
