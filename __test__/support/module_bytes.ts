// Modules byte by byte, for those that no text can make: enormous ones and invalid ones. Works in scripts too.
// Format: https://webassembly.github.io/spec/core/binary/modules.html

/** Bytes of a module. */
export type Bytes = Uint8Array | readonly number[];

/** The numbers of the sections. */
export const section = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
  table: 4,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  code: 10,
  data: 11,
  dataCount: 12,
} as const;

/** The types of values. */
export const type = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b, funcref: 0x70 } as const;

/** The kinds of imports and exports. */
export const kind = { function: 0, table: 1, memory: 2, global: 3 } as const;

/** The instructions that tests use. */
export const op = {
  unreachable: 0x00,
  nop: 0x01,
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  end: 0x0b,
  br: 0x0c,
  brIf: 0x0d,
  brTable: 0x0e,
  return: 0x0f,
  call: 0x10,
  callIndirect: 0x11,
  drop: 0x1a,
  localGet: 0x20,
  localSet: 0x21,
  globalGet: 0x23,
  globalSet: 0x24,
  i32Load: 0x28,
  i32Store: 0x36,
  i32Const: 0x41,
  i32Add: 0x6a,
  i32Mul: 0x6c,
  refFunc: 0xd2,
} as const;

/** The type of a block that takes and gives nothing. */
export const EMPTY = 0x40;

/** A number in unsigned LEB128. */
export function leb(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  do {
    bytes.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    left = Math.floor(left / 0x80);
  } while (left > 0);
  return Buffer.from(bytes);
}

/** An i32 in signed LEB128. */
export function signed(value: number): Buffer {
  const bytes: number[] = [];
  let left = value | 0;
  while (left < -0x40 || left >= 0x40) {
    bytes.push((left & 0x7f) | 0x80);
    left >>= 7;
  }
  bytes.push(left & 0x7f);
  return Buffer.from(bytes);
}

/** Bytes one behind the other; a number is one byte. */
export function bytes(...parts: readonly (Bytes | number)[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === 'number' ? [part] : part)).map(asBuffer));
}

/** The same bytes so many times. */
export function repeat(times: number, ...parts: readonly (Bytes | number)[]): Buffer {
  const once = bytes(...parts);
  return Buffer.alloc(once.length * times, once);
}

/** Bytes for each number below `count`. */
export function each(count: number, make: (index: number) => Bytes): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, index) => asBuffer(make(index))));
}

/** A name, or any other bytes after their length. */
export function sized(content: string | Bytes): Buffer {
  const utf8 = typeof content === 'string' ? Buffer.from(content) : asBuffer(content);
  return bytes(leb(utf8.length), utf8);
}

/** A section of so many items, or with `undefined` of bytes that are no list. */
export function sectionOf(id: number, count: number | undefined, ...items: readonly Bytes[]): Buffer {
  return bytes(id, sized(bytes(...(count === undefined ? [] : [leb(count)]), ...items)));
}

/** A function's type. */
export function funcType(parameters: readonly number[] = [], results: readonly number[] = []): Buffer {
  return bytes(0x60, leb(parameters.length), parameters, leb(results.length), results);
}

/** A function's code: groups of locals as `[count, type]`, then instructions, to which the last `end` is added. */
export function code(instructions: Bytes, locals: readonly (readonly [number, number])[] = []): Buffer {
  const groups = locals.map(([count, of]) => bytes(leb(count), of));
  return sized(bytes(leb(locals.length), ...groups, instructions, op.end));
}

/** An export. */
export function exported(name: string, of: number, index: number): Buffer {
  return bytes(sized(name), of, leb(index));
}

/** A module of these sections. */
export function moduleOf(...sections: readonly Bytes[]): Buffer {
  return bytes([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], ...sections);
}

/** A module with one function, exported as `f`, and these sections between its types and its code. */
export function oneFunction(
  instructions: Bytes,
  parts: {
    readonly parameters?: readonly number[];
    readonly results?: readonly number[];
    readonly locals?: readonly (readonly [number, number])[];
    /** Tables, memories and globals. */
    readonly before?: readonly Bytes[];
    /** Elements. */
    readonly after?: readonly Bytes[];
  } = {},
): Buffer {
  return moduleOf(
    sectionOf(section.type, 1, funcType(parts.parameters, parts.results)),
    sectionOf(section.function, 1, leb(0)),
    ...(parts.before ?? []),
    sectionOf(section.export, 1, exported('f', kind.function, 0)),
    ...(parts.after ?? []),
    sectionOf(section.code, 1, code(instructions, parts.locals)),
  );
}

function asBuffer(part: Bytes): Buffer {
  return part instanceof Uint8Array
    ? Buffer.from(part.buffer, part.byteOffset, part.length)
    : Buffer.from(part);
}
