// What is no module is refused in one line that says what it looks like and what helps, by every way in. The engines agree on it.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import {
  ArgumentError,
  CompiledModule,
  Instantiate,
  InstantiationError,
  JsSupervisor,
  SandboxBackend,
  SandboxComponents,
  SandboxHost,
} from '../../index';
import { forEachBackend } from '../support/engines';
import { environment } from '../support/environment';
import { caught, rejection } from '../support/expect';
import { V8 } from '../support/v8';
import { wat } from '../support/wat';

/** `(module (func (export "f") (result i64) (i64.const …)))`, with bytes that are no UTF-8. */
const MODULE = new Uint8Array(
  Buffer.from('0061736d010000000105016000017e03020100070501016600000a090107004280fffe010b', 'hex'),
);

function latin1(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

function utf8(text: string): Uint8Array {
  return Buffer.from(text, 'utf8');
}

function utf16be(text: string): Uint8Array {
  return Buffer.from(text, 'utf16le').swap16();
}

/** Bytes that are no module, and what the message must say of them. */
const NO_MODULES: readonly [name: string, bytes: Uint8Array, says: RegExp][] = [
  ['text', utf8('(module)'), /WebAssembly text: .*wat2wasm/],
  ['text behind white space', utf8('\n\t ( module $m )'), /WebAssembly text/],
  ['text behind comments', utf8(';; (c) us\n(; all ;)\n(module)'), /WebAssembly text/],
  [
    'text behind a comment longer than what is looked at',
    utf8(`(; ${'x'.repeat(9000)} ;)(module)`),
    /WebAssembly text/,
  ],
  ['text of fields alone', utf8('(func (export "f"))'), /WebAssembly text/],
  ['text behind a byte order mark', utf8('\ufeff(module)'), /WebAssembly text/],
  ['text in UTF-16', Buffer.from('\ufeff(module)', 'utf16le'), /WebAssembly text/],
  ['text in UTF-16 without a mark', Buffer.from('(module)', 'utf16le'), /WebAssembly text/],
  ['text in UTF-16, the high byte first', utf16be('\ufeff(module)'), /WebAssembly text/],
  ['text of a component', utf8('(component)'), /WebAssembly text/],
  ['an HTML page', utf8('<!DOCTYPE html>\n<title>404</title>'), /an HTML page: .*request/],
  ['an HTML page without a type', utf8('  <html lang="en">'), /an HTML page/],
  ['an XML error', utf8('<?xml version="1.0"?><Error><Code>NoSuchKey</Code>'), /XML/],
  ['the text of a missing page', utf8('404: Not Found'), /text that begins with "404: Not Found"/],
  ['JSON', utf8('{"message":"Not Found"}'), /JSON/],
  ['a list as JSON', utf8('[0, 97, 115, 109]'), /JSON/],
  ['a Buffer as JSON', utf8(JSON.stringify(Buffer.from(MODULE))), /a Buffer as JSON/],
  ['JavaScript', utf8('import { a } from "b";'), /JavaScript: .*file beside it/],
  [
    'glue code',
    utf8('// The Module object: Our interface to the outside world.\nvar Module = {};'),
    /JavaScript/,
  ],
  ['bundled JavaScript', utf8('"use strict";(()=>{})()'), /JavaScript/],
  ['minified JavaScript', utf8('!function(e){}(this)'), /JavaScript/],
  ['a script', utf8('#!/bin/sh\nexit 1'), /a script/],
  ['base64 of a module', utf8(Buffer.from(MODULE).toString('base64')), /base64 of a module: decode/],
  [
    'a data URL',
    utf8(`data:application/wasm;base64,${Buffer.from(MODULE).toString('base64')}`),
    /a data URL/,
  ],
  ['hexadecimal digits', utf8(Buffer.from(MODULE).toString('hex')), /hexadecimal digits of a module/],
  [
    'hexadecimal digits with a prefix',
    utf8(`0x${Buffer.from(MODULE).toString('hex')}`),
    /hexadecimal digits/,
  ],
  ['a pointer of Git LFS', utf8('version https://git-lfs.github.com/spec/v1\noid sha256:4d7a'), /Git LFS/],
  ['white space', utf8(' \n'), /white space/],
  ['gzip', gzipSync(MODULE), /a gzip file: decompress/],
  ['zstd', latin1('\x28\xb5\x2f\xfd\x00\x58'), /a zstd file/],
  [
    'a runtime of Substrate',
    latin1('\x52\xbc\x53\x76\x46\xdb\x8e\x05\x28\xb5\x2f\xfd'),
    /runtime of Substrate.*zstd/,
  ],
  ['xz', latin1('\xfd7zXZ\0\0'), /an xz file/],
  ['zip', latin1('PK\x03\x04\x14\0'), /a zip archive/],
  ['ELF', latin1('\x7fELF\x02\x01'), /an ELF file/],
  ['Mach-O', latin1('\xcf\xfa\xed\xfe\x07\0'), /a Mach-O file/],
  ['PE', latin1('MZ\x90\0\x03\0'), /a PE file/],
  ['a static library', latin1('!<arch>\n/   '), /a static library/],
  ['PNG', latin1('\x89PNG\r\n\x1a\n'), /a PNG image/],
  ['PDF', utf8('%PDF-1.7\n'), /a PDF document/],
  ['an artifact of wasmer', latin1('wasmer-universal\x01\0'), /artifact of the wasmer command/],
  ['nothing', new Uint8Array(), /there are none/],
  ['one byte of a module', latin1('\0'), /truncated: only its first 1 byte/],
  ['the magic number alone', latin1('\0asm'), /truncated: only its first 4 bytes/],
  [
    'a module without its end',
    MODULE.subarray(0, MODULE.length - 1),
    /truncated: 1 byte of its last section/,
  ],
  [
    'a module that ends in the head of a section',
    Buffer.concat([MODULE, latin1('\0')]),
    /truncated: it ends in the head/,
  ],
  ['a component', latin1('\0asm\x0d\0\x01\0'), /a WebAssembly component, and only core modules.*unbundle/],
  ['another version', latin1('\0asm\x02\0\0\0'), /of version 2 of the binary format, and only version 1/],
  ['a module behind a byte order mark', Buffer.concat([latin1('\xef\xbb\xbf'), MODULE]), /byte order mark/],
  ['a module that was read as text', utf8(Buffer.from(MODULE).toString('utf8')), /was read or sent as text/],
  [
    'brotli, which has no magic number',
    brotliCompressSync(MODULE),
    /they begin with ([\da-f]{2} ){3}[\da-f]{2}, and a module/,
  ],
  ['zeros', new Uint8Array(20), /they begin with 00 00 00 00, and a module/],
  ['fewer bytes than a magic number', latin1('\x01\x02'), /they begin with 01 02, and/],
];

function refused(error: InstantiationError, name: string, says: RegExp): void {
  assert.equal(error.code, 'ERR_SANDBOX_INSTANTIATION', name);
  assert.equal(error.kind, 'ModuleDecoding', name);
  assert.match(error.message, says, name);
  assert.doesNotMatch(error.message, /\n/, `${name}: one line`);
  assert.ok(error.message.length < 300, `${name}: ${error.message.length} characters`);
  assert.ok(error.cause instanceof Error, `${name}: the engine's own words are the cause`);
}

describe('What is no module', () => {
  forEachBackend((backend) => {
    it('is named where it is instantiated, and where it is compiled', async () => {
      const components = new SandboxComponents(backend);
      const supervisor = new JsSupervisor();
      const env = environment(components);
      for (const [name, bytes, says] of NO_MODULES) {
        const instantiate = (): unknown =>
          components.instantiate(Instantiate.Version1, bytes, env, supervisor);
        refused(caught(InstantiationError, instantiate), name, says);
        const promised = components.instantiateAsync(Instantiate.Version1, bytes, env, supervisor);
        refused(await rejection(InstantiationError, promised), name, says);
        refused(await rejection(InstantiationError, CompiledModule.compile(backend, bytes)), name, says);
      }
    });

    it('is named in whatever holds bytes, and whatever that says of itself', () => {
      const components = new SandboxComponents(backend);
      const env = environment(components);
      const text = utf8('(module)');
      const shared = new SharedArrayBuffer(text.length);
      new Uint8Array(shared).set(text);
      const liar = Object.defineProperties(new Uint8Array(text), {
        length: { get: assert.fail },
        subarray: { value: assert.fail },
        [Symbol.iterator]: { value: assert.fail },
      });
      for (const bytes of [
        new Uint8Array(text).buffer,
        new DataView(new Uint8Array(text).buffer),
        shared,
        liar,
      ]) {
        const run = (): unknown =>
          components.instantiate(Instantiate.Version1, bytes, env, new JsSupervisor());
        assert.match(caught(InstantiationError, run).message, /WebAssembly text/);
      }
    });

    it('is named in what host functions leave as the last error', () => {
      const memory = new V8.Memory({ initial: 1 });
      const table = new V8.Table({ element: 'anyfunc', initial: 1 });
      table.set(0, thunk());
      const host = new SandboxHost({
        backend,
        memory: () => memory,
        table: () => table,
        allocator: { allocate: () => 1024, deallocate() {} },
      });
      const text = utf8('(module)');
      new Uint8Array(memory.buffer).set(text);
      const wasm = BigInt(text.length) << 32n;
      const definition = (2n << 32n) | 512n;
      assert.equal(host.imports.env.ext_sandbox_instantiate_version_1(0, wasm, definition, 0), -1);
      assert.match(host.lastError?.message ?? '', /look like WebAssembly text/);
    });

    it('leaves to the engine what begins as a module and is whole', async () => {
      const wrong = latin1('\0asm\x01\0\0\0\x01\x01\x7f');
      const error = await rejection(InstantiationError, CompiledModule.compile(backend, wrong));
      assert.equal(error.message, (error.cause as Error).message);
    });
  });

  it('is named where a serialised module is expected, and the other way round', async () => {
    const load = (bytes: Uint8Array): string =>
      caught(InstantiationError, () => CompiledModule.unsafeDeserialize(SandboxBackend.Wasmer, bytes))
        .message;
    assert.match(load(MODULE), /not compiled yet: give it to CompiledModule\.compile$/);
    assert.match(
      load(utf8('(module)')),
      /nothing that CompiledModule\.serialize has made, but look like WebAssembly text/,
    );
    assert.match(
      load(latin1('\x01\x02\x03')),
      /nothing that CompiledModule\.serialize has made: they begin with 01 02 03$/,
    );
    const serialized = (await CompiledModule.compile(SandboxBackend.Wasmer, MODULE)).serialize();
    serialized[serialized.length - 1] ^= 1;
    assert.match(load(serialized), /damaged/);
    for (const backend of [SandboxBackend.Wasmi, SandboxBackend.Wasmer]) {
      const error = await rejection(InstantiationError, CompiledModule.compile(backend, serialized));
      assert.match(
        error.message,
        /CompiledModule\.serialize has made: give it to CompiledModule\.unsafeDeserialize/,
      );
    }
  });
});

describe('What is given in place of bytes', () => {
  const components = new SandboxComponents(SandboxBackend.Wasmi);
  const env = environment(components);

  for (const [name, value, says] of [
    ['a path', './guest.wasm', /got "\.\/guest\.wasm": read the file first/],
    ['an address', 'https://example.org/guest.wasm', /fetch it first/],
    ['text', '(module)', /it looks like WebAssembly text: turn it into a binary/],
    ['base64', Buffer.from(MODULE).toString('base64'), /base64 of a module: decode it first/],
    ['a file that was read as text', Buffer.from(MODULE).toString('latin1'), /without an encoding/],
    ['a Promise', Promise.resolve(MODULE), /await it first/],
    ['a URL', new URL('file:///guest.wasm'), /read or fetch the file first/],
    ['a Response', new Response(''), /await response\.arrayBuffer\(\)/],
    ['a Blob', new Blob([]), /await blob\.arrayBuffer\(\)/],
    ['a list of numbers', [0, 97, 115, 109], /Uint8Array\.from/],
    ['a stream', new ReadableStream(), /read the stream to its end/],
    ['a module of V8', new V8.Module(MODULE), /another engine cannot be used/],
  ] as const) {
    it(`is named with what to give: ${name}`, async () => {
      const wrong = value as unknown as Uint8Array;
      const supervisor = new JsSupervisor();
      const run = (): unknown => components.instantiate(Instantiate.Version1, wrong, env, supervisor);
      const errors = [
        caught(ArgumentError, run),
        await rejection(
          ArgumentError,
          components.instantiateAsync(Instantiate.Version1, wrong, env, supervisor),
        ),
        await rejection(ArgumentError, CompiledModule.compile(SandboxBackend.Wasmi, wrong)),
      ];
      for (const error of errors) {
        assert.equal(error.argument, 'wasm');
        assert.match(
          error.message,
          /^wasm must be the bytes of a module, in a buffer or a view of one, got /,
        );
        assert.match(error.message, says);
      }
    });
  }

  it('runs none of its code', () => {
    const fail = (): never => assert.fail('its code has run');
    const watched = new Proxy(Promise.resolve(), { get: fail, getPrototypeOf: fail });
    for (const wrong of [
      watched,
      Object.create(watched),
      {
        get constructor() {
          return fail();
        },
      },
    ]) {
      const run = (): unknown =>
        components.instantiate(Instantiate.Version1, wrong as Uint8Array, env, new JsSupervisor());
      assert.equal(caught(ArgumentError, run).argument, 'wasm');
    }
  });
});

/** A function that a table of V8 takes. */
function thunk(): unknown {
  const text = '(module (func (export "f") (param i32 i32 i32 i32) (result i64) (i64.const 0)))';
  return (new V8.Instance(new V8.Module(wat(text)), {}).exports as { f: unknown }).f;
}
