// What the package must do wherever it is installed: each part of it once, on both engines. Plain JavaScript without a test runner, so that
// every runtime can run it. It is copied into an empty project, and given the package as that module system loads it.
'use strict';

const assert = require('node:assert/strict');

/**
 * @param {typeof import('sandbox-host')} sandboxHost
 * @param {Uint8Array} wasm - guest.wat
 * @returns {Promise<number>} how many checks passed; it rejects with the first that failed
 */
module.exports = async function runSuite(sandboxHost, wasm) {
  let passed = 0;
  for (const backend of ['wasmi', 'wasmer']) {
    for (const [name, check] of Object.entries(checks)) {
      try {
        await check(sandboxHost, backend, wasm);
      } catch (error) {
        throw new Error(`${backend}: ${name}`, { cause: error });
      }
      passed += 1;
    }
  }
  return passed;
};

const checks = {
  async 'a guest calls its supervisor and returns'(sandboxHost, backend, wasm) {
    const { Value } = sandboxHost;
    const { instance, supervisor, heard } = guest(sandboxHost, backend, wasm);
    assert.deepEqual(instance.invoke('twice', [Value.I32(21)], supervisor), { type: 'i32', value: 42 });
    assert.deepEqual(heard, [21, 21]);
  },

  async 'what a supervisor throws is the cause of a trap'(sandboxHost, backend, wasm) {
    const { TrapError, Value } = sandboxHost;
    const { instance, supervisor } = guest(sandboxHost, backend, wasm);
    const error = thrownBy(() => instance.invoke('twice', [Value.I32(-1)], supervisor));
    assert.ok(error instanceof TrapError);
    assert.equal(error.trap, 'supervisor');
    assert.equal(error.cause, NEGATIVE);
  },

  async 'a division by zero, an access out of bounds and a deep recursion are traps'(
    sandboxHost,
    backend,
    wasm,
  ) {
    const { Value } = sandboxHost;
    const { instance, supervisor } = guest(sandboxHost, backend, wasm);
    const trapOf = (name, args) => thrownBy(() => instance.invoke(name, args, supervisor)).trap;
    assert.equal(trapOf('divide', [Value.I32(1), Value.I32(0)]), 'integer-divide-by-zero');
    assert.equal(trapOf('load', [Value.I32(-4)]), 'memory-out-of-bounds');
    assert.equal(trapOf('deep', []), 'stack-overflow');
    assert.deepEqual(instance.invoke('divide', [Value.I32(7), Value.I32(2)], supervisor), {
      type: 'i32',
      value: 3,
    });
  },

  async 'the memory is shown without a copy until it grows'(sandboxHost, backend, wasm) {
    const { Value } = sandboxHost;
    const { instance, supervisor } = guest(sandboxHost, backend, wasm);
    const memory = instance.getMemory('memory');
    const { buffer } = memory;
    new Uint32Array(buffer)[2] = 4711;
    assert.deepEqual(instance.invoke('load', [Value.I32(8)], supervisor), { type: 'i32', value: 4711 });
    assert.equal(memory.memoryGrow(1), 1);
    assert.equal(buffer.byteLength, 0);
    assert.equal(memory.memorySize(), 2);
    assert.deepEqual([...memory.read(8, 2)], [4711 & 0xff, 4711 >> 8]);
  },

  async 'globals are read and written'(sandboxHost, backend, wasm) {
    const { Value } = sandboxHost;
    const { instance } = guest(sandboxHost, backend, wasm);
    assert.equal(instance.setGlobalVal('counter', Value.I64(2n ** 40n)), true);
    assert.deepEqual(instance.getGlobalVal('counter'), { type: 'i64', value: 2n ** 40n });
  },

  async 'an endless guest is stopped by a timeout, at once and on another thread'(
    sandboxHost,
    backend,
    wasm,
  ) {
    const { instance, supervisor } = guest(sandboxHost, backend, wasm);
    const timedOut = { code: 'ERR_SANDBOX_TIMEOUT' };
    assert.throws(() => instance.invoke('forever', [], supervisor, { timeout: 20 }), timedOut);
    await assert.rejects(instance.invokeAsync('forever', [], supervisor, { timeout: 20 }), timedOut);
  },

  async 'an endless guest runs out of fuel'(sandboxHost, backend, wasm) {
    const { instance, supervisor } = guest(sandboxHost, backend, wasm, { fuel: true });
    const error = thrownBy(() => instance.invoke('forever', [], supervisor, { fuel: 10_000n }));
    assert.equal(error.trap, 'out-of-fuel');
    assert.equal(instance.fuel, 0n);
  },

  async 'twenty guests wait for Promises at once'(sandboxHost, backend, wasm) {
    const { Value } = sandboxHost;
    const guests = Array.from({ length: 20 }, () => guest(sandboxHost, backend, wasm, {}, 'async'));
    const results = await Promise.all(
      guests.map(({ instance, supervisor }, index) =>
        instance.invokeAsync('twice', [Value.I32(index)], supervisor),
      ),
    );
    assert.deepEqual(
      results.map(({ value }) => value),
      guests.map((_, index) => index * 2),
    );
  },

  async 'a module is compiled on another thread, and kept as bytes on wasmer'(sandboxHost, backend, wasm) {
    const { CompiledModule, Value } = sandboxHost;
    let module = await CompiledModule.compile(backend, wasm, { cache: false });
    if (backend === 'wasmer') module = CompiledModule.unsafeDeserialize(backend, module.serialize());
    const { instance, supervisor } = guest(sandboxHost, backend, module);
    assert.deepEqual(instance.invoke('twice', [Value.I32(4)], supervisor), { type: 'i32', value: 8 });
  },

  async 'what is no module is refused, and the components go on'(sandboxHost, backend, wasm) {
    const { InstantiationError } = sandboxHost;
    const error = thrownBy(() =>
      guest(sandboxHost, backend, new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 99])),
    );
    assert.ok(error instanceof InstantiationError);
    assert.equal(error.kind, 'ModuleDecoding');
    guest(sandboxHost, backend, wasm);
  },

  async 'a supervisor that speaks the six steps is heard'(sandboxHost, backend, wasm) {
    const { Value, codec } = sandboxHost;
    const { instance } = guest(sandboxHost, backend, wasm);
    const memory = new Uint8Array(256);
    let next = 0;
    const six = {
      allocateMemory: (size) => {
        next += size;
        return next - size;
      },
      deallocateMemory: () => {},
      writeMemory: (address, data) => memory.set(data, address),
      readMemoryInto: (address, dest) => dest.set(memory.subarray(address, address + dest.length)),
      invoke: (ptr, length) => {
        const [value] = codec.decodeValues(memory.subarray(ptr, ptr + length));
        const answer = codec.encodeDispatchResult({ ok: true, value: Value.I32(value.value * 3) });
        memory.set(answer, 128);
        return (128n << 32n) | BigInt(answer.length);
      },
    };
    assert.deepEqual(instance.invoke('twice', [Value.I32(5)], six), { type: 'i32', value: 30 });
  },

  async 'a thousand instances come and go'(sandboxHost, backend, wasm) {
    const { GuestEnvironment, Instantiate, Value } = sandboxHost;
    const { components, definition, supervisor } = guest(sandboxHost, backend, wasm);
    const environment = GuestEnvironment.decode(components, definition);
    for (let round = 0; round < 1000; round += 1) {
      const index = components
        .instantiate(Instantiate.Version1, wasm, environment, supervisor)
        .register(components, undefined);
      const result = components
        .instance(index)
        .invoke('divide', [Value.I32(round), Value.I32(1)], supervisor);
      assert.equal(result.value, round);
      components.instanceTeardown(index);
    }
    components.clear();
  },
};

const NEGATIVE = new Error('a negative number');

/** An instance of guest.wat, whose import tells what it has heard. */
function guest(sandboxHost, backend, module, options = {}, answers = 'sync') {
  const {
    EnvironmentDefinitionBuilder,
    GuestEnvironment,
    Instantiate,
    JsSupervisor,
    SandboxComponents,
    Value,
  } = sandboxHost;
  const components = new SandboxComponents(backend, options);
  const supervisor = new JsSupervisor();
  const heard = [];
  const hear = ([{ value }]) => {
    if (value < 0) throw NEGATIVE;
    heard.push(value);
    return Value.I32(value);
  };
  const later = async (args) => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    return hear(args);
  };
  const index = supervisor.define(answers === 'async' ? later : hear);
  const definition = new EnvironmentDefinitionBuilder().addHostFunc('env', 'hear', index).encode();
  const environment = GuestEnvironment.decode(components, definition);
  const instance = components.instance(
    components
      .instantiate(Instantiate.Version1, module, environment, supervisor)
      .register(components, undefined),
  );
  return { components, definition, instance, supervisor, heard };
}

function thrownBy(run) {
  try {
    run();
  } catch (error) {
    return error;
  }
  return assert.fail('nothing was thrown');
}
