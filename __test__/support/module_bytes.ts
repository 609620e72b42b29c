// Modules byte by byte, for those that are too large, too deep or too wrong for WAT. Knows the binary format and nothing else, and checks
// nothing: it makes invalid modules as readily as valid ones. Stands alone, so that child processes can use it too.

/** Bytes, in any nesting. */
export type Bytes = number | Uint8Array | readonly Bytes[];

export const I32 = 0x7f;
export const I64 = 0x7e;
export const F64 = 0x7c;
export const FUNCREF = 0x70;
/** The type of a block without parameters and results. */
export const EMPTY = 0x40;
export const END = 0x0b;

export const KINDS = { function: 0, table: 1, memory: 2, global: 3 } as const;

/** All of it in one piece. */
export function bytes(...parts: readonly Bytes[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  const add = (part: Bytes): void => {
    if (typeof part === 'number') pieces.push(Uint8Array.of(part));
    else if (part instanceof Uint8Array) pieces.push(part);
    else for (const inner of part) add(inner);
  };
  parts.forEach(add);
  return Buffer.concat(pieces);
}

/** The same bytes so many times. */
export function repeat(count: number, ...parts: readonly Bytes[]): Uint8Array {
  const one = bytes(...parts);
  return count === 0 ? new Uint8Array() : Buffer.alloc(one.length * count, one);
}

/** An unsigned number in LEB128. */
export function uleb(value: number): Uint8Array {
  const out: number[] = [];
  for (let left = value; ; left = Math.floor(left / 128)) {
    if (left < 128) return Uint8Array.of(...out, left);
    out.push((left % 128) | 128);
  }
}

/** `i32.const`. */
export function i32Const(value: number): Uint8Array {
  const out = [0x41];
  for (let left = value | 0; ; left >>= 7) {
    const low = left & 127;
    if (left >> 6 === 0 || left >> 6 === -1) return Uint8Array.of(...out, low);
    out.push(low | 128);
  }
}

/** A count, and what is counted. */
export function vector(count: number, ...items: readonly Bytes[]): Uint8Array {
  return bytes(uleb(count), ...items);
}

/** Text with its length. */
export function named(text: string): Uint8Array {
  const encoded = Buffer.from(text);
  return bytes(uleb(encoded.length), encoded);
}

/** A function type. */
export function funcType(params: readonly number[], results: readonly number[] = []): Uint8Array {
  return bytes(0x60, vector(params.length, params), vector(results.length, results));
}

/** A function's body of locals of one type and instructions. The last `end` is added. */
export function body(code: Bytes, locals = 0, type = I32): Uint8Array {
  const content = bytes(locals === 0 ? 0 : [1, uleb(locals), type], code, END);
  return bytes(uleb(content.length), content);
}

/** The content of each section, its count included. Sections that are not there are left out. */
export interface Sections {
  types?: Bytes;
  imports?: Bytes;
  functions?: Bytes;
  tables?: Bytes;
  memories?: Bytes;
  globals?: Bytes;
  exports?: Bytes;
  start?: Bytes;
  elements?: Bytes;
  dataCount?: Bytes;
  code?: Bytes;
  data?: Bytes;
}

/** In the order in which they must stand. */
const IDS: Record<keyof Sections, number> = {
  types: 1,
  imports: 2,
  functions: 3,
  tables: 4,
  memories: 5,
  globals: 6,
  exports: 7,
  start: 8,
  elements: 9,
  dataCount: 12,
  code: 10,
  data: 11,
};

const HEADER = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);

/** A module of these sections, and then of any others as they are. */
export function moduleBytes(sections: Sections, ...others: readonly Bytes[]): Uint8Array {
  const known = Object.entries(IDS).flatMap(([name, id]) => {
    const content = sections[name as keyof Sections];
    return content === undefined ? [] : [section(id, content)];
  });
  return bytes(HEADER, known, ...others);
}

export function section(id: number, content: Bytes): Uint8Array {
  const whole = bytes(content);
  return bytes(id, uleb(whole.length), whole);
}

/** One export. */
export function exported(name: string, kind: keyof typeof KINDS, index = 0): Uint8Array {
  return bytes(named(name), KINDS[kind], uleb(index));
}

/** A module with one function `f` of that body, without parameters and with one i32 as its result. */
export function withFunction(code: Uint8Array, more: Sections = {}): Uint8Array {
  return moduleBytes({
    types: vector(1, funcType([], [I32])),
    functions: vector(1, 0),
    exports: vector(1, exported('f', 'function')),
    code: vector(1, code),
    ...more,
  });
}
