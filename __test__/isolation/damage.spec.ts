// A module cut off at every byte, and with every byte changed: what is still valid is made into a guest and runs, everything else is refused by a
// typed error, and the guest that is made next works. Whether both engines judge the same is looked at in crate/tests/damage.rs.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  Instantiate,
  InstantiationError,
  JsSupervisor,
  LimitError,
  SandboxComponents,
  SandboxError,
  type SandboxInstance,
  TrapError,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { Findings } from '../support/hostile';
import { wat } from '../support/wat';

/** Something of every section, and instructions of most kinds. */
const MODULE = `(module
  (type $binary (func (param i32 i32) (result i32)))
  (import "env" "ask" (func $ask (param i32) (result i32)))
  (import "env" "memory" (memory 1 2))
  (table $table (export "table") 2 8 funcref)
  (memory $own (export "own") 1 2)
  (global $global (export "global") (mut i64) (i64.const 5))
  (elem (table $table) (i32.const 0) func $add $sum)
  (elem $passive func $add)
  (data (i32.const 3) "data")
  (data $late "late")
  (func $add (type $binary) (i32.add (local.get 0) (local.get 1)))
  (func $sum (export "sum") (type $binary) (local $n i32) (local f64)
    (loop $next
      (local.set $n (i32.add (local.get $n) (call $ask (i32.const 1))))
      (br_if $next (i32.lt_s (local.get $n) (i32.const 5))))
    (local.get $n))
  (func (export "all") (result i32)
    (memory.init $own $late (i32.const 8) (i32.const 0) (i32.const 4))
    (memory.copy $own $own (i32.const 0) (i32.const 8) (i32.const 4))
    (table.init $table $passive (i32.const 1) (i32.const 0) (i32.const 1))
    (global.set $global (i64.extend_i32_u (i32.load $own (i32.const 0))))
    (block $a (block $b (br_table $a $b (i32.const 1))))
    (if (f32.lt (f32.load (i32.const 4)) (f32.const 1)) (then (nop)) (else (unreachable)))
    (drop (i32x4.extract_lane 2 (v128.load (i32.const 0))))
    (drop (i32.trunc_sat_f64_s (f64.sqrt (f64.const 2))))
    (call_indirect $table (type $binary) (i32.const 3) (i32.const 4) (i32.const 0)))
  (func $start (drop (memory.grow $own (i32.const 1))))
  (start $start))`;

const MASKS = [0x01, 0x80, 0xff];

/** So that what is damaged ends, and takes little. */
const OPTIONS = {
  fuel: true,
  cache: false,
  limits: { memoryBytes: 8 << 20, tableElements: 10_000 },
} as const;
const BUDGET = { fuel: 50_000n };

describe('A damaged module', () => {
  forEachBackend((backend) => {
    const supervisor = new JsSupervisor();
    const ask = supervisor.define(([n]) => n);

    function make(wasm: Uint8Array): SandboxInstance {
      const components = new SandboxComponents<unknown>(backend, OPTIONS);
      const memories = { 'env.memory': components.newMemory(1, 2) };
      const env = environment(components, { 'env.ask': ask }, memories);
      const made = components.instantiate(Instantiate.Version1, wasm, env, supervisor, BUDGET);
      return components.instance(made.register(components, undefined));
    }

    /** Calls all exports, and gives how many calls came back. */
    function run(instance: SandboxInstance): number {
      let returned = 0;
      for (const { name, kind, type } of instance.exports) {
        const parameters = (type.parameters ?? []) as Value['type'][];
        if (kind !== 'function' || !parameters.every((parameter) => parameter in ZEROS)) continue;
        const results = type.results as Value['type'][];
        if (!results.every((result) => result in ZEROS)) continue;
        try {
          instance.invoke(
            name,
            parameters.map((parameter) => ZEROS[parameter]),
            supervisor,
            BUDGET,
          );
          returned++;
        } catch (error) {
          if (!(error instanceof TrapError)) throw error;
        }
      }
      instance.getMemory('own')?.read(0, 1);
      instance.getGlobalVal('global');
      return returned;
    }

    function works(): void {
      const instance = make(wat(MODULE));
      assert.deepEqual(instance.invoke('all', [], supervisor), Value.I32(7));
      assert.deepEqual(instance.invoke('sum', [Value.I32(1), Value.I32(2)], supervisor), Value.I32(5));
    }

    /** Looks at damaged modules, and gives how many were refused and how many calls of the others came back. */
    function judge(damaged: Iterable<readonly [what: string, wasm: Uint8Array]>) {
      const findings = new Findings();
      const seen = { refused: 0, made: 0, returned: 0 };
      for (const [what, wasm] of damaged) {
        findings.check(() => {
          try {
            seen.returned += run(make(wasm));
            seen.made++;
          } catch (error) {
            isRefused(error, what);
            seen.refused++;
          }
        });
        findings.check(works);
      }
      findings.none();
      return seen;
    }

    it('is refused wherever it is cut off, or works', () => {
      const wasm = wat(MODULE);
      const { refused, made } = judge(
        Array.from(wasm, (_, length) => [`cut off at ${length}`, wasm.slice(0, length)] as const),
      );
      // Whole up to its names, or but for them.
      assert.ok(made > 0 && refused > wasm.length / 2, `${refused} refused, ${made} not`);
    });

    for (const mask of MASKS) {
      it(`is refused or works with any byte changed by 0x${mask.toString(16)}`, () => {
        const wasm = wat(MODULE);
        const damaged = Array.from(wasm, (byte, at) => {
          const copy = wasm.slice();
          copy[at] = byte ^ mask;
          return [`byte ${at} changed by ${mask}`, copy] as const;
        });
        const { refused, made, returned } = judge(damaged);
        assert.ok(refused > 50 && made > 20 && returned > 20, `${refused} refused, ${made} not, ${returned}`);
      });
    }
  });
});

const ZEROS: Record<Value['type'], Value> = {
  i32: Value.I32(0),
  i64: Value.I64(0n),
  f32: Value.F32(0),
  f64: Value.F64(0n),
};

/** A module that cannot be had, or that is larger than the limits. */
function isRefused(error: unknown, what: string): void {
  const code = error instanceof SandboxError ? error.code : String(error);
  assert.ok(error instanceof InstantiationError || error instanceof LimitError, `${what}: ${code}`);
  assert.ok(error.message.length > 0, what);
}
