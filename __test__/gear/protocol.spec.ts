// The six steps of a supervisor call: their order, what is freed when, and the message and cause of each failure.
// Contract: section 2 and `dispatch_common` of the reference.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  CodecError,
  codec,
  Instantiate,
  JsSupervisor,
  type SandboxBackend,
  type SupervisorContext,
  type TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { causedBy, supervisorTrap } from '../support/expect';
import { type GuestFunction, guest } from '../support/guest';
import { ProtocolSupervisor, pack, sixSteps, stepFailures } from '../support/protocol';

const GUEST = `(module
  (import "env" "add" (func $add (param i32 i64) (result i32)))
  (import "env" "nothing" (func $nothing))
  (global (export "gear_gas") (mut i64) (i64.const 1000))
  (func (export "add") (result i32) (call $add (i32.const 3) (i64.const 4)))
  (func (export "nothing") (call $nothing))
  (func (export "seven") (result i32) (i32.const 7)))`;

/** Things that can be thrown and have to come back as they are. */
const throwables: [what: string, thrown: unknown, text: string][] = [
  ['an Error', new Error('text of the error'), 'text of the error'],
  ['an error of another class', new RangeError('text of the range'), 'text of the range'],
  ['an Error without a message', new Error(), ''],
  ['a string', 'plain text', 'plain text'],
  ['an empty string', '', ''],
  ['a number', 42, '42'],
  ['NaN', Number.NaN, 'NaN'],
  ['a bigint', 12n, '12'],
  ['false', false, 'false'],
  ['null', null, 'null'],
  ['undefined', undefined, 'undefined'],
  ['a symbol', Symbol('s'), 'Symbol(s)'],
  ['an object', { code: 1 }, '[object Object]'],
  ['a frozen object', Object.freeze({ toString: () => 'frozen' }), 'frozen'],
];

describe('The six-step protocol', () => {
  forEachBackend((backend) => {
    for (const version of [Instantiate.Version1, Instantiate.Version2]) {
      describe(`under Version${version}`, () => protocol(backend, version));
    }
  });
});

function protocol(backend: SandboxBackend, version: Instantiate): void {
  function build(context: ProtocolSupervisor = new ProtocolSupervisor(version)) {
    const made = guest({
      backend,
      version,
      supervisor: context,
      imports: {
        'env.add': ([a, b]) =>
          Value.I32((a as { value: number }).value + Number((b as { value: bigint }).value)),
        'env.nothing': () => undefined,
      },
      wat: GUEST,
    });
    return { ...made, context };
  }

  /** After a failure the guest, the supervisor and the gas must be as good as new. */
  function stillWorks({ call, context, instance }: ReturnType<typeof build>): void {
    assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
    context.behave();
    assert.deepEqual(call('add'), Value.I32(7));
    assert.deepEqual(context.steps, sixSteps);
    assert.deepEqual(call('seven'), Value.I32(7));
  }

  it('takes its steps in order and frees everything', () => {
    const { call, context } = build();
    assert.deepEqual(call('add'), Value.I32(7));
    assert.deepEqual(context.steps, sixSteps);
    assert.equal(context.leaks, 0);
    assert.equal(call('nothing'), undefined);
    assert.deepEqual(context.steps, [...sixSteps, ...sixSteps]);
    assert.equal(context.leaks, 0);
  });

  it('writes the arguments as a SCALE Vec<Value>', () => {
    const { call, context } = build();
    call('add');
    call('nothing');
    const [add, nothing] = context.writtenArguments.map((bytes) => Buffer.from(bytes).toString('hex'));
    if (version === Instantiate.Version1) {
      assert.equal(add, '080003000000010400000000000000');
      assert.equal(nothing, '00');
    } else {
      assert.equal(add, '0c01e8030000000000000003000000010400000000000000');
      assert.equal(nothing, '0401e803000000000000');
    }
  });

  it('does not touch the supervisor when the guest calls nothing', () => {
    const { call, context } = build();
    call('seven');
    assert.deepEqual(context.steps, []);
  });

  it('calls the methods of the context as methods, on its prototype or on itself', () => {
    const { instance, context } = build();
    const calls: string[] = [];
    const bound: SupervisorContext = {
      allocateMemory(size) {
        assert.equal(this, bound);
        calls.push('allocateMemory');
        return context.allocateMemory(size);
      },
      writeMemory: (address, data) => context.writeMemory(address, data),
      invoke: (ptr, len, index) => context.invoke(ptr, len, index),
      readMemoryInto: (address, dest) => context.readMemoryInto(address, dest),
      deallocateMemory: (ptr) => context.deallocateMemory(ptr),
    };
    assert.deepEqual(instance.invoke('add', [], bound), Value.I32(7));
    assert.deepEqual(calls, ['allocateMemory']);
  });

  it('prefers readMemory where the context has it', () => {
    let reads = 0;
    class Reading extends ProtocolSupervisor {
      readMemory(address: number, size: number): Uint8Array {
        reads++;
        return this.read(address, size);
      }
    }
    const { call, context } = build(new Reading(version));
    assert.deepEqual(call('add'), Value.I32(7));
    assert.equal(reads, 1);
    assert.deepEqual(context.steps, sixSteps);
  });

  it('passes pointers and lengths beyond 2^31 as unsigned numbers', () => {
    const argsPtr = 0xfffffff0;
    const resultPtr = 0x80000000;
    const { instance } = build();
    const ok = version === Instantiate.Version1 ? [0] : [0, 232, 3, 0, 0, 0, 0, 0, 0];
    const result = Uint8Array.from([...ok, ...codec.encodeReturnValue(Value.I32(-1))]);
    for (const packed of [
      pack(resultPtr, result.length),
      BigInt.asUintN(64, pack(resultPtr, result.length)),
    ]) {
      const seen: unknown[] = [];
      const high: SupervisorContext = {
        allocateMemory: () => argsPtr,
        writeMemory: (address) => {
          seen.push(address);
        },
        invoke: (ptr) => {
          seen.push(ptr);
          return packed;
        },
        readMemoryInto: (address, dest) => {
          seen.push(address, dest.length);
          dest.set(result);
        },
        deallocateMemory: (ptr) => {
          seen.push(ptr);
        },
      };
      assert.deepEqual(instance.invoke('add', [], high), Value.I32(-1));
      assert.deepEqual(seen, [argsPtr, argsPtr, argsPtr, resultPtr, result.length, resultPtr]);
    }
  });

  for (const { fail, message, steps } of stepFailures) {
    describe(`when ${fail.join(' and ')} fails`, () => {
      const causeAt = fail.at(-1);

      it('stops after the right steps and frees what it can', () => {
        const made = build();
        for (const step of fail) made.context.failAt(step, new Error(step));
        supervisorTrap(() => made.call('add'));
        assert.deepEqual(made.context.steps, steps);
        stillWorks(made);
      });

      for (const [what, thrown, text] of throwables) {
        it(`traps with the right message, and ${what} is the cause`, () => {
          const made = build();
          for (const step of fail)
            made.context.failAt(step, step === causeAt ? thrown : new Error('an earlier one'));
          const error = supervisorTrap(() => made.call('add'));
          assert.equal(error.message, message ?? text);
          causedBy(error, thrown);
          stillWorks(made);
        });
      }
    });
  }

  it('frees the arguments and the result when a step fails in between', () => {
    for (const step of ['write arguments', 'invoke', 'read result'] as const) {
      const { call, context } = build();
      context.failAt(step, new Error('fails'));
      supervisorTrap(() => call('add'));
      assert.equal(context.leaks, 0, step);
    }
  });

  it('survives a thrown object that cannot become a string', () => {
    const made = build();
    for (const thrown of [
      Object.create(null),
      {
        toString() {
          throw new Error('no text');
        },
      },
    ]) {
      made.context.failAt('invoke', thrown);
      causedBy(
        supervisorTrap(() => made.call('add')),
        thrown,
      );
    }
    stillWorks(made);
  });

  it('traps when the supervisor answers with HostError', () => {
    const made = build();
    made.context.hostError();
    const error = supervisorTrap(() => made.call('add'));
    assert.equal(error.message, 'Supervisor function returned sandbox::HostError');
    assert.equal(made.context.leaks, 0);
    stillWorks(made);
  });

  it('traps when the result cannot be decoded, and frees it', () => {
    const decoding =
      version === Instantiate.Version1
        ? 'Decoding Result<ReturnValue, HostError> failed!'
        : 'Decoding Result<WasmReturnValue, HostError> failed!';
    const gas = version === Instantiate.Version1 ? [] : [1, 0, 0, 0, 0, 0, 0, 0];
    for (const bytes of [
      [],
      [0],
      [2],
      [0, ...gas],
      [0, ...gas, 2],
      [0, ...gas, 1],
      [0, ...gas, 1, 4, 0, 0, 0, 0],
      [0, ...gas, 1, 0, 1, 2],
    ]) {
      const made = build();
      made.context.resultBytes(Uint8Array.from(bytes));
      const error: TrapError = supervisorTrap(() => made.call('add'));
      assert.equal(error.message, decoding, `bytes [${bytes}]`);
      assert.ok(error.cause instanceof CodecError, `bytes [${bytes}]`);
      assert.deepEqual(made.context.steps, sixSteps);
      assert.equal(made.context.leaks, 0);
      stillWorks(made);
    }
  });

  it('traps when the result has the wrong type, and leaves the gas as it was', () => {
    const gas = version === Instantiate.Version1 ? [] : [1, 0, 0, 0, 0, 0, 0, 0];
    const results: [string, Value | undefined][] = [
      ['add', undefined],
      ['add', Value.I64(7n)],
      ['add', Value.f32(7)],
      ['add', Value.f64(7)],
      ['nothing', Value.I32(0)],
    ];
    for (const [name, value] of results) {
      const made = build();
      made.context.resultBytes(Uint8Array.from([0, ...gas, ...codec.encodeReturnValue(value)]));
      supervisorTrap(() => made.call(name));
      assert.deepEqual(made.context.steps, sixSteps);
      assert.equal(made.context.leaks, 0);
      stillWorks(made);
    }
  });

  it('traps when a step returns something that is no pointer', () => {
    for (const answer of [-1, 1.5, Number.NaN, 2 ** 32, '8', 8n, undefined, null, {}]) {
      const made = build();
      made.context.answerAt('allocate arguments', answer);
      supervisorTrap(() => made.call('add'));
      stillWorks(made);
    }
  });

  it('traps when invoke returns something that is no packed pair', () => {
    for (const answer of [1, '1', undefined, null, {}, 2n ** 64n, -(2n ** 63n) - 1n, Promise.resolve(1n)]) {
      const made = build();
      made.context.answerAt('invoke', answer);
      supervisorTrap(() => made.call('add'));
      stillWorks(made);
    }
  });

  it('traps when the result lies outside the memory of the supervisor', () => {
    const made = build();
    const { context } = made;
    let resultPtr = 0;
    const outside: SupervisorContext = {
      allocateMemory: (size) => context.allocateMemory(size),
      writeMemory: (address, data) => context.writeMemory(address, data),
      invoke: (ptr, len, index) => {
        resultPtr = Number(context.invoke(ptr, len, index) >> 32n);
        return pack(resultPtr, context.memorySize);
      },
      readMemoryInto: (address, dest) => context.readMemoryInto(address, dest),
      deallocateMemory: (ptr) => context.deallocateMemory(ptr),
    };
    const error = supervisorTrap(() => made.instance.invoke('add', [], outside));
    assert.equal(error.message, "Can't read the serialized result from dispatch thunk");
    assert.ok(error.cause instanceof RangeError);
    assert.deepEqual(context.steps, sixSteps);
    assert.equal(context.leaks, 0);
    stillWorks(made);
  });

  for (const reads of ['readMemory', 'readMemoryInto'] as const) {
    it(`takes no more of an answer by ${reads} than can mean something, whatever it claims`, async () => {
      const made = build();
      const { context } = made;
      const asked: number[] = [];
      const bytes = (length: number): Uint8Array => {
        asked.push(length);
        return new Uint8Array(length);
      };
      let answer: Uint8Array = new Uint8Array();
      const claiming: SupervisorContext = {
        allocateMemory: (size) => context.allocateMemory(size),
        writeMemory: (address, data) => context.writeMemory(address, data),
        invoke(ptr, len, index) {
          const packed = context.invoke(ptr, len, index);
          answer = new Uint8Array(Number(packed & 0xffff_ffffn));
          context.readMemoryInto(Number(packed >> 32n), answer);
          context.deallocateMemory(Number(packed >> 32n));
          return (8n << 32n) | 0xffff_fff0n;
        },
        readMemoryInto(_address, dest) {
          assert.equal(reads, 'readMemoryInto');
          asked.push(dest.length);
          dest.set(answer.subarray(0, dest.length));
        },
        ...(reads === 'readMemoryInto'
          ? {}
          : {
              readMemory(_address: number, size: number) {
                const given = bytes(size);
                given.set(answer.subarray(0, size));
                return given;
              },
            }),
        deallocateMemory: (ptr) => (ptr === 8 ? undefined : context.deallocateMemory(ptr)),
      };
      const expected = made.instance.invoke('add', [], context);
      assert.deepEqual(made.instance.invoke('add', [], claiming), expected);
      assert.deepEqual(await made.instance.invokeAsync('add', [], claiming), expected);
      assert.ok(asked.length > 0 && asked.every((length) => length < 32), `${asked}`);
    });
  }

  it('copies no more of what readMemory returns than can mean something', () => {
    const made = build();
    const { context } = made;
    const large = new Uint8Array(2 ** 30);
    const returning: SupervisorContext = {
      allocateMemory: (size) => context.allocateMemory(size),
      writeMemory: (address, data) => context.writeMemory(address, data),
      invoke: (ptr, len, index) => context.invoke(ptr, len, index),
      readMemoryInto: (address, dest) => context.readMemoryInto(address, dest),
      readMemory(address, size) {
        context.readMemoryInto(address, large.subarray(0, size));
        return large;
      },
      deallocateMemory: (ptr) => context.deallocateMemory(ptr),
    };
    const expected = made.instance.invoke('add', [], context);
    const before = process.memoryUsage().arrayBuffers;
    assert.deepEqual(made.instance.invoke('add', [], returning), expected);
    assert.ok(process.memoryUsage().arrayBuffers - before < 2 ** 29);
  });

  it('traps when an answer reaches beyond the addresses that there are', () => {
    const made = build();
    const { context } = made;
    const beyond: SupervisorContext = {
      allocateMemory: (size) => context.allocateMemory(size),
      writeMemory: (address, data) => context.writeMemory(address, data),
      invoke: () => (0xffff_ffffn << 32n) | 100n,
      readMemoryInto: () => assert.fail('must not be read'),
      deallocateMemory: (ptr) => (ptr === 0xffff_ffff ? undefined : context.deallocateMemory(ptr)),
    };
    const error = supervisorTrap(() => made.instance.invoke('add', [], beyond));
    assert.equal(error.message, "Can't read the serialized result from dispatch thunk");
    assert.ok(error.cause instanceof RangeError);
  });

  it('traps when readMemory returns something that is no result', () => {
    class Reading extends ProtocolSupervisor {
      answer: unknown;
      readMemory(address: number, size: number): Uint8Array {
        const bytes = this.read(address, size);
        return this.answer === 'behave' ? bytes : (this.answer as Uint8Array);
      }
    }
    for (const answer of [
      undefined,
      null,
      'text',
      5,
      [],
      new Uint8Array(0),
      Promise.resolve(new Uint8Array(6)),
    ]) {
      const context = new Reading(version);
      const made = build(context);
      context.answer = answer;
      supervisorTrap(() => made.call('add'));
      assert.equal(context.leaks, 0);
      context.answer = 'behave';
      stillWorks(made);
    }
  });

  it('gives the thrown object back however often it happens', () => {
    const made = build();
    for (let i = 0; i < 500; i++) {
      const thrown = { i };
      made.context.failAt('invoke', thrown);
      causedBy(
        supervisorTrap(() => made.call('add')),
        thrown,
      );
    }
    stillWorks(made);
  });
}

describe('The protocol of a JsSupervisor', () => {
  forEachBackend((backend) => {
    /** Hides that it is a JsSupervisor, so that every call takes the six steps through its public methods. */
    function disguised(supervisor: JsSupervisor): SupervisorContext {
      return {
        allocateMemory: (size) => supervisor.allocateMemory(size),
        writeMemory: (address, data) => supervisor.writeMemory(address, data),
        invoke: (ptr, len, index) => supervisor.invoke(ptr, len, index),
        readMemoryInto: (address, dest) => supervisor.readMemoryInto(address, dest),
        deallocateMemory: (ptr) => supervisor.deallocateMemory(ptr),
      };
    }

    const wat = `(module
      (import "env" "f" (func $f (param i32 i64 f32 f64) (result i64))) (import "env" "nothing" (func $nothing))
      (global (export "gear_gas") (mut i64) (i64.const 1000))
      (func (export "f") (result i64)
        (call $f (i32.const 1) (i64.const -2) (f32.const 0.5) (f64.const -0.25)))
      (func (export "nothing") (call $nothing)))`;

    for (const version of [Instantiate.Version1, Instantiate.Version2]) {
      function build(f: GuestFunction) {
        const supervisor = new JsSupervisor();
        const { instance } = guest({
          backend,
          version,
          supervisor,
          imports: { 'env.f': f, 'env.nothing': () => undefined },
          wat,
        });
        return { instance, direct: supervisor, throughSteps: disguised(supervisor) };
      }

      it(`has the same outcome as calling its functions directly under Version${version}`, () => {
        const seen: unknown[] = [];
        const { instance, direct, throughSteps } = build((args, { gas, instance: running }) => {
          seen.push([args, gas, running?.getGlobalVal('gear_gas')]);
          return args[1];
        });
        assert.deepEqual(instance.invoke('f', [], direct), Value.I64(-2n));
        assert.deepEqual(instance.invoke('f', [], throughSteps), Value.I64(-2n));
        assert.deepEqual(seen[1], seen[0]);
        assert.equal(instance.invoke('nothing', [], throughSteps), undefined);
      });

      it(`fails the same way under Version${version}`, () => {
        const thrown = new Error('by the function');
        const { instance, direct, throughSteps } = build(() => {
          throw thrown;
        });
        for (const context of [direct, throughSteps]) {
          const error = supervisorTrap(() => instance.invoke('f', [], context));
          assert.equal(error.message, 'by the function');
          causedBy(error, thrown);
        }
        for (const wrong of [undefined, Value.I32(1), 5, Promise.resolve(Value.I64(1n))]) {
          const other = build(() => wrong as Value);
          supervisorTrap(() => other.instance.invoke('f', [], other.direct));
          supervisorTrap(() => other.instance.invoke('f', [], other.throughSteps));
        }
        assert.equal(instance.invoke('nothing', [], throughSteps), undefined);
        assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(1000n));
      });
    }

    it('writes the gas back all the same', () => {
      const supervisor = new JsSupervisor();
      const { instance } = guest({
        backend,
        version: Instantiate.Version2,
        supervisor,
        imports: {
          'env.f': ([, n], { gas }) => ({ gas: (gas as bigint) - 1n, value: n }),
          'env.nothing': (_args, { gas }) => ({ gas: (gas as bigint) - 10n }),
        },
        wat,
      });
      assert.deepEqual(instance.invoke('f', [], disguised(supervisor)), Value.I64(-2n));
      assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(999n));
      instance.invoke('nothing', [], disguised(supervisor));
      assert.deepEqual(instance.getGlobalVal('gear_gas'), Value.I64(989n));
    });

    it('allocates memory that can be written, read and freed', () => {
      const supervisor = new JsSupervisor();
      const a = supervisor.allocateMemory(4);
      const b = supervisor.allocateMemory(4);
      supervisor.writeMemory(a, Uint8Array.of(1, 2, 3, 4));
      supervisor.writeMemory(b, Uint8Array.of(5, 6, 7, 8));
      const dest = new Uint8Array(4);
      supervisor.readMemoryInto(a, dest);
      assert.deepEqual(dest, Uint8Array.of(1, 2, 3, 4));
      supervisor.deallocateMemory(a);
      supervisor.readMemoryInto(b, dest);
      assert.deepEqual(dest, Uint8Array.of(5, 6, 7, 8));
      supervisor.deallocateMemory(b);
    });

    it('speaks SCALE in its invoke', () => {
      const supervisor = new JsSupervisor();
      const sum = supervisor.define(([a, b]) =>
        Value.I32((a as { value: number }).value + (b as { value: number }).value),
      );
      const args = codec.encodeValues([Value.I32(2), Value.I32(3)]);
      const ptr = supervisor.allocateMemory(args.length);
      supervisor.writeMemory(ptr, args);
      const packed = BigInt.asUintN(64, supervisor.invoke(ptr, args.length, sum));
      const result = new Uint8Array(Number(packed & 0xffffffffn));
      supervisor.readMemoryInto(Number(packed >> 32n), result);
      assert.deepEqual(result, Uint8Array.from([0, ...codec.encodeReturnValue(Value.I32(5))]));
      supervisor.deallocateMemory(ptr);
      supervisor.deallocateMemory(Number(packed >> 32n));
    });
  });
});
