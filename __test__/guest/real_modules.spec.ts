// Modules that other people built and published on npm, run as guests: what they compute is compared with what their own
// glue, or Node, computes. The demo runs a third one.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { brotliCompressSync, brotliDecompressSync } from 'node:zlib';
import {
  Instantiate,
  JsSupervisor,
  type Memory,
  SandboxComponents,
  type SandboxInstance,
  Value,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import type { GuestFunction } from '../support/guest';

/** `exports` of that package hides the file. */
const BROTLI = join(dirname(require.resolve('brotli-wasm')), 'pkg.node', 'brotli_wasm_bg.wasm');

/** Loads a published module whose imports are all functions. */
function load(backend: SandboxComponents['backend'], file: string, functions: Record<string, GuestFunction>) {
  const components = new SandboxComponents<undefined>(backend);
  const supervisor = new JsSupervisor();
  const indices = Object.fromEntries(
    Object.entries(functions).map(([name, fn]) => [name, supervisor.define(fn)]),
  );
  const env = environment(components, indices, {});
  const unregistered = components.instantiate(Instantiate.Version1, readFileSync(file), env, supervisor);
  const instance = components.instance(unregistered.register(components, undefined));
  const call = (name: string, ...args: number[]): number => {
    const result = instance.invoke(name, args.map(Value.I32), supervisor);
    return result === undefined ? 0 : Value.toNumber(result as Value);
  };
  return { instance, call, memory: memoryOf(instance) };
}

function memoryOf(instance: SandboxInstance): Memory {
  const memory = instance.getMemory('memory');
  assert.ok(memory);
  return memory;
}

const numbers = (args: readonly Value[]): number[] => args.map(Value.toNumber);

describe('A published module', () => {
  forEachBackend((backend) => {
    it('parses source maps: mappings.wasm of source-map', () => {
      const rows: number[][] = [];
      const { call, memory } = load(backend, require.resolve('source-map/lib/mappings.wasm'), {
        'env.mapping_callback': (args) => {
          rows.push(numbers(args));
        },
      });
      const parse = (mappings: string): number => {
        const address = call('allocate_mappings', mappings.length);
        memory.writeFrom(address, Buffer.from(mappings));
        return call('parse_mappings', address);
      };
      const handle = parse('AAAA;AACA,MAAM,CAACA;EACL');
      assert.notEqual(handle, 0);
      call('by_generated_location', handle);
      call('free_mappings', handle);
      // Generated line and column, has a last column, it, has an original, source, line, column, has a name, it.
      assert.deepEqual(rows, [
        [0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 1, 0, 1, 0, 0, 0],
        [1, 6, 0, 0, 1, 0, 1, 6, 0, 0],
        [1, 7, 0, 0, 1, 0, 1, 7, 1, 0],
        [2, 2, 0, 0, 1, 0, 2, 2, 0, 0],
      ]);
      assert.equal(parse('A!'), 0);
      assert.equal(call('get_last_error'), 4);
    });

    it('compresses and decompresses, growing its memory and calling back in: brotli-wasm', () => {
      const options = Buffer.from('{"quality":9}');
      const guest: ReturnType<typeof load> = load(
        backend,
        BROTLI,
        brotliImports({
          __wbindgen_is_undefined: () => Value.I32(0),
          __wbindgen_is_object: () => Value.I32(1),
          __wbindgen_json_serialize: ([ret]) => {
            const address = guest.call('__wbindgen_malloc', options.length);
            guest.memory.writeFrom(address, options);
            guest.memory.writeFrom(Value.toNumber(ret), Uint32Array.of(address, options.length));
          },
        }),
      );
      const run = (name: string, input: Uint8Array, ...rest: number[]): Buffer => {
        const ret = guest.call('__wbindgen_add_to_stack_pointer', -16);
        const address = guest.call('__wbindgen_malloc', input.length);
        guest.memory.writeFrom(address, input);
        guest.call(name, ret, address, input.length, ...rest);
        const [output, length, , isError] = new Uint32Array(guest.memory.read(ret, 16).buffer);
        assert.equal(isError, 0);
        const bytes = Buffer.from(guest.memory.read(output, length));
        guest.call('__wbindgen_free', output, length);
        guest.call('__wbindgen_add_to_stack_pointer', 16);
        return bytes;
      };
      const text = Buffer.from(Array.from({ length: 5000 }, (_, index) => `line ${index % 97}\n`).join(''));
      const pages = guest.memory.memorySize();
      const compressed = run('compress', text, 1000);
      assert.ok(compressed.length < text.length / 10);
      assert.ok(guest.memory.memorySize() > pages);
      assert.deepEqual(brotliDecompressSync(compressed), text);
      assert.deepEqual(run('decompress', brotliCompressSync(text)), text);
    });
  });
});

/** All that brotli-wasm imports; what is not given is never called. */
function brotliImports(given: Record<string, GuestFunction>): Record<string, GuestFunction> {
  const { WebAssembly } = globalThis as unknown as {
    WebAssembly: {
      Module: {
        new (bytes: Uint8Array): object;
        imports(module: object): { module: string; name: string }[];
      };
    };
  };
  const imports = WebAssembly.Module.imports(new WebAssembly.Module(readFileSync(BROTLI)));
  return Object.fromEntries(
    imports.map(({ module, name }) => [
      `${module}.${name}`,
      given[name] ??
        (() => {
          throw new Error(`${name} was called`);
        }),
    ]),
  );
}
