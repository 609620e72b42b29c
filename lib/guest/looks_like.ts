/**
 * Describes bytes that an engine refused as a module, and values that were passed instead of bytes: one
 * line each, with a remedy. It is only used after a failure, so it costs nothing otherwise. Nothing here
 * throws, or runs code of the caller.
 */

import { isUtf8 } from 'node:buffer';
import { types } from 'node:util';
import { argumentError, bytes, classNameOf, isArray, lengthOf } from '../base/arguments';
import { ArgumentError } from '../base/errors';

/** See `crate/artifact.rs`. */
const SERIALIZED = 'SBXHMODU';
const COMPILE_FOR_WASM = 'compile the program for a wasm target';

/** Magic numbers, as Latin-1. The first match counts. */
const MAGIC_NUMBERS: readonly (readonly [magic: string, what: string, remedy?: string])[] = [
  ['\x1f\x8b', 'a gzip file', 'decompress it first'],
  ['\x28\xb5\x2f\xfd', 'a zstd file', 'decompress it first'],
  ['\xfd7zXZ\0', 'an xz file', 'decompress it first'],
  ['BZh', 'a bzip2 file', 'decompress it first'],
  ['7z\xbc\xaf\x27\x1c', 'a 7z archive', 'unpack it first'],
  ['PK\x03\x04', 'a zip archive', 'unpack it first'],
  [
    '\x52\xbc\x53\x76\x46\xdb\x8e\x05',
    'a compressed runtime of Substrate',
    'decompress what follows its first 8 bytes with zstd',
  ],
  [
    SERIALIZED,
    'a module that CompiledModule.serialize has made',
    'give it to CompiledModule.unsafeDeserialize',
  ],
  ['wasmer-universal', 'an artifact of the wasmer command', 'give the module from which it was made'],
  ['WASMER\0\0', 'an artifact of the wasmer command', 'give the module from which it was made'],
  ['\x7fELF', 'an ELF file, a program or library of Linux or an artifact of an engine', COMPILE_FOR_WASM],
  ['\xcf\xfa\xed\xfe', 'a Mach-O file, a program or library of macOS', COMPILE_FOR_WASM],
  ['\xce\xfa\xed\xfe', 'a Mach-O file, a program or library of macOS', COMPILE_FOR_WASM],
  ['\xca\xfe\xba\xbe', 'a Mach-O file for several processors, or a class of Java', COMPILE_FOR_WASM],
  ['MZ', 'a PE file, a program or library of Windows', COMPILE_FOR_WASM],
  ['!<arch>\n', 'a static library', 'link it to a module first'],
  ['BC\xc0\xde', 'LLVM bitcode', 'compile it for a wasm target'],
  ['\x89PNG', 'a PNG image'],
  ['\xff\xd8\xff', 'a JPEG image'],
  ['GIF8', 'a GIF image'],
  ['%PDF-', 'a PDF document'],
  ['SQLite format 3\0', 'an SQLite database'],
];

/** Beginnings of texts, after byte order marks and white space. The first match counts. */
const TEXTS: readonly (readonly [beginning: RegExp, what: string, remedy?: string])[] = [
  // WebAssembly text may begin with a comment or an annotation.
  [
    /^(?:;;|\(;|\(@|\(\s*(?:module|component|type|import|export|func|memory|table|global|data|elem|start|tag|rec)\b)/,
    'WebAssembly text',
    'turn it into a binary first, by wat2wasm or wasm-tools parse',
  ],
  [
    /^(?:<!doctype html|<html|<head|<body)/i,
    'an HTML page',
    'look at the status and the address of the request',
  ],
  [/^<(?:\?xml|[a-z!])/i, 'XML', 'look at the status and the address of the request'],
  [
    /^version https:\/\/git-lfs/,
    'a pointer of Git LFS in place of the file',
    'fetch the file by git lfs pull',
  ],
  [/^\{\s*"type"\s*:\s*"Buffer"/, 'a Buffer as JSON', 'give Buffer.from of its data'],
  [/^[[{]\s*(?:["[\]{}\d-]|true|false|null|$)/, 'JSON'],
  [/^data:[\w/+.;-]+;base64,/, 'a data URL', "give Buffer.from(…, 'base64') of what follows its comma"],
  [/^AGFzb[\w+/=-]/, 'base64 of a module', "decode it first, by Buffer.from(text, 'base64')"],
  [/^(?:0x)?0061736d/i, 'hexadecimal digits of a module', "decode it first, by Buffer.from(text, 'hex')"],
  [/^#!/, 'a script'],
  [
    /^(?:\/\/|\/\*|(?:["']use strict["'])|(?:import|export|const|let|var|function|async|class|await|return)[\s{(*]|module\.exports|exports\.|Object\.define|[!;(]*(?:function|async|\(\)|\w+ ?=>))/,
    'JavaScript',
    'the glue code of a module loads the module from a file beside it: give that file',
  ],
];

/** How many bytes of a file are examined as text. */
const HEAD_BYTES = 4096;
/** The most characters of a text that are quoted. */
const MOST_QUOTED = 40;

const NO_MODULE = 'the bytes are no WebAssembly module';
const EXPECTED = ', and a module begins with 00 61 73 6d';
const WASM = '\0asm';
const CORE_VERSION = 1;
const HEADER_BYTES = 8;

/**
 * Why bytes are not a module, in one line; undefined if they begin like one and are complete, so that
 * only the engine can say what is wrong.
 *
 * @param given - bytes that an engine refused
 */
export function looksLike(given: Uint8Array): string | undefined {
  const length = lengthOf(given);
  const head = headOf(given);
  if (length === 0) return `${NO_MODULE}: there are none, as in an empty file`;
  const start = latin1(head.subarray(0, 16));
  if (start.startsWith(WASM)) return ofWasm(given, head, length);
  if (length < WASM.length && WASM.startsWith(start)) return onlyBeginning(length);
  if (start.startsWith(`\xef\xbb\xbf${WASM}`)) {
    return notA('a module behind a byte order mark', 'remove its first 3 bytes, and do not write it as text');
  }
  const known = MAGIC_NUMBERS.find(([magic]) => start.startsWith(magic));
  if (known !== undefined) return notA(known[1], known[2]);
  const text = textOf(head, length);
  if (text !== undefined) return ofText(text);
  const digits = [...head.subarray(0, WASM.length)].map(hex).join(' ');
  return `${NO_MODULE}: they begin with ${digits}${EXPECTED}`;
}

function notA(what: string, remedy: string | undefined): string {
  return `${NO_MODULE}, but look like ${what}${remedy === undefined ? '' : `: ${remedy}`}`;
}

function onlyBeginning(length: number): string {
  return `the module is truncated: only its first ${count(length, 'byte')} are there`;
}

/** Why bytes that begin like a module are not one. */
function ofWasm(given: Uint8Array, head: Uint8Array, length: number): string | undefined {
  if (length < HEADER_BYTES) return onlyBeginning(length);
  const version = head[4]! | (head[5]! << 8);
  const layer = head[6]! | (head[7]! << 8);
  if (layer === 1) {
    return (
      'the bytes are a WebAssembly component, and only core modules can be run: ' +
      'compile the program for wasm32-unknown-unknown or wasm32-wasip1, or take the core modules out by wasm-tools component unbundle'
    );
  }
  if (layer !== 0 || version !== CORE_VERSION) {
    const number = ((layer << 16) | version) >>> 0;
    return `the module is of version ${number} of the binary format, and only version ${CORE_VERSION} can be run`;
  }
  if (wasReadAsText(given, length)) {
    return 'the module was read or sent as text, which has replaced bytes of it: read it as bytes, without an encoding';
  }
  return truncation(given, length);
}

/** U+FFFD in UTF-8, which replaces what could not be decoded. */
const REPLACEMENT = [0xef, 0xbf, 0xbd] as const;

/**
 * Whether all of it is UTF-8, with replacement characters: a binary hardly ever is, and never by chance.
 */
function wasReadAsText(given: Uint8Array, length: number): boolean {
  try {
    if (!isUtf8(given)) return false;
  } catch {
    return false;
  }
  for (let at = HEADER_BYTES; at + 2 < length; at += 1) {
    if (REPLACEMENT.every((byte, index) => given[at + index] === byte)) return true;
  }
  return false;
}

/**
 * Reports the first section that is longer than the rest of the bytes (WebAssembly specification,
 * "Binary Format", "Sections").
 */
function truncation(given: Uint8Array, length: number): string | undefined {
  let at = HEADER_BYTES;
  while (at < length) {
    const section = at;
    let size = 0;
    let scale = 1;
    for (at += 1; ; at += 1) {
      if (at >= length)
        return `the module is truncated: it ends in the head of the section at byte ${section}`;
      const byte = given[at]!;
      size += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      scale *= 128;
      // Such a number has at most five bytes.
      if (scale > 2 ** 28) return undefined;
    }
    at += 1 + size;
  }
  if (at === length) return undefined;
  const missing = count(at - length, 'byte');
  return `the module is truncated: ${missing} of its last section are missing, after ${count(length, 'byte')}`;
}

/**
 * The beginning of the bytes as text, without the byte order mark and white space before it; undefined
 * if the bytes are not text.
 */
function textOf(head: Uint8Array, length: number): string | undefined {
  const [first, second] = head;
  const isLittle = (first === 0xff && second === 0xfe) || (first !== 0 && second === 0 && head[3] === 0);
  const isBig = first === 0xfe && second === 0xff;
  const text = isLittle ? utf16(head, 0) : isBig ? utf16(head, 1) : utf8(head, length);
  if (text === undefined || /(?!\s)[\p{Cc}\ufffd]/u.test(text)) return undefined;
  // `trimStart` also removes a byte order mark.
  return text.trimStart();
}

function utf8(head: Uint8Array, length: number): string | undefined {
  // Ignore a character that is cut off at the end.
  for (let cut = 0; cut < 4 && cut < head.length; cut += 1) {
    const part = head.subarray(0, head.length - cut);
    try {
      if (isUtf8(part)) return Buffer.from(part).toString('utf8');
    } catch {
      return undefined;
    }
    if (length === head.length) return undefined;
  }
  return undefined;
}

function utf16(head: Uint8Array, low: 0 | 1): string {
  let text = '';
  for (let at = 0; at + 1 < head.length; at += 2) {
    text += String.fromCharCode(head[at + low]! | (head[at + 1 - low]! << 8));
  }
  return text;
}

function ofText(text: string): string {
  const known = TEXTS.find(([beginning]) => beginning.test(text));
  if (known !== undefined) return notA(known[1], known[2]);
  const line = text.split('\n', 1)[0]!.trimEnd();
  const quoted = JSON.stringify(line.slice(0, MOST_QUOTED));
  return text === '' ? `${NO_MODULE}, but white space` : `${NO_MODULE}, but text that begins with ${quoted}`;
}

/** Copies bytes one by one, because the array is the caller's and may have a `subarray` of its own. */
function headOf(given: Uint8Array): Uint8Array {
  const head = new Uint8Array(Math.min(lengthOf(given), HEAD_BYTES));
  for (let at = 0; at < head.length; at += 1) head[at] = given[at]!;
  return head;
}

function latin1(part: Uint8Array): string {
  return String.fromCharCode(...part);
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}

function count(number: number, unit: string): string {
  return `${number} ${unit}${number === 1 ? '' : 's'}`;
}

// In place of bytes

/** Other values that users pass, by the names of their classes, and what to pass instead. */
const INSTEAD: Readonly<Record<string, string>> = {
  Promise: 'await it first',
  Response: 'give await response.arrayBuffer()',
  Request: 'fetch it, and give await response.arrayBuffer()',
  Blob: 'give await blob.arrayBuffer()',
  File: 'give await file.arrayBuffer()',
  URL: 'read or fetch the file first',
  FileHandle: 'give await handle.readFile()',
  ReadStream: 'read the stream to its end first',
  IncomingMessage: 'read the stream to its end first',
  Readable: 'read the stream to its end first',
  ReadableStream: 'read the stream to its end first',
  Module: 'modules of another engine cannot be used: give the bytes from which it was compiled',
};

/**
 * The bytes of a module, checked like {@link bytes}. For any other value, the error says what to pass
 * instead.
 */
export function moduleBytes(value: unknown, name: string, expected = 'the bytes of a module'): Uint8Array {
  try {
    return bytes(value, name);
  } catch (error) {
    const remedy = insteadOf(value);
    if (remedy === undefined) throw error;
    const { message } = argumentError(name, `${expected}, in a buffer or a view of one`, value);
    throw new ArgumentError(`${message}: ${remedy}`, { argument: name });
  }
}

function insteadOf(value: unknown): string | undefined {
  if (typeof value === 'string') return insteadOfString(value);
  if (typeof value !== 'object' || value === null || types.isProxy(value)) return undefined;
  if (isArray(value)) return 'give Uint8Array.from of it';
  if (types.isPromise(value)) return INSTEAD.Promise;
  const className = classNameOf(value);
  return className !== undefined && Object.hasOwn(INSTEAD, className) ? INSTEAD[className] : undefined;
}

function insteadOfString(text: string): string {
  const start = text.slice(0, HEAD_BYTES).trimStart();
  if (start.startsWith(WASM)) return 'it was read as text: read the file as bytes, without an encoding';
  if (/^https?:\/\//i.test(start)) return 'fetch it first, and give await response.arrayBuffer()';
  const known = TEXTS.find(([beginning]) => beginning.test(start));
  if (known === undefined) return 'read the file first, and give what it contains';
  return `it looks like ${known[1]}${known[2] === undefined ? '' : `: ${known[2]}`}`;
}

/** Describes bytes that cannot be deserialised; undefined if they begin as they should. */
export function looksLikeInPlaceOfSerialized(given: Uint8Array): string | undefined {
  const start = latin1(headOf(given).subarray(0, 16));
  // Only native code can tell whether it is complete.
  if (start.startsWith(SERIALIZED) || SERIALIZED.startsWith(start)) return undefined;
  if (start.startsWith(`${WASM}\x01\0\0\0`)) {
    return 'the bytes are a WebAssembly module that is not compiled yet: give it to CompiledModule.compile';
  }
  return looksLike(given)
    ?.replace(NO_MODULE, 'the bytes are nothing that CompiledModule.serialize has made')
    .replace(EXPECTED, '');
}
