// Modules of extreme size and shape, each right at a limit or one beyond it, and what becomes of each on either engine. The limits are those
// that implementations of WebAssembly have agreed on, https://webassembly.github.io/spec/js-api/#limits, where no more is said.
import {
  body,
  bytes,
  EMPTY,
  END,
  exported,
  FUNCREF,
  funcType,
  I32,
  i32Const,
  moduleBytes,
  named,
  repeat,
  type Sections,
  uleb,
  vector,
  withFunction,
} from '../support/module_bytes';

/** What becomes of a module: the value that its `f` gives, or why there is none. */
export type Fate =
  | number
  | 'made'
  | 'invalid'
  | 'cannot be linked'
  | 'over a limit'
  | 'internal error when called'
  | 'too large';

export interface ExtremeModule {
  readonly name: string;
  readonly make: () => Uint8Array;
  /** On both engines, or on each; `undefined` where it takes too long to try. */
  readonly fate: Fate | { readonly wasmi: Fate | undefined; readonly wasmer: Fate | undefined };
}

const NOP = 0x01;
const BLOCK = 0x02;
const LOOP = 0x03;
const IF = 0x04;
const BR_TABLE = 0x0e;
const CALL = 0x10;
const DROP = 0x1a;
const LOCAL_GET = 0x20;
const I32_ADD = 0x6a;

/** How long a body with so many bytes of instructions is, beside those: no locals, `i32.const 7`, `end`. */
const SEVEN = bytes(i32Const(7));
const BODY_BYTES = 1 + SEVEN.length + 1;

const seven = body(SEVEN);
const MOST_BODY_BYTES = 7_654_321;

/** `f`, which gives 7, and something else. */
const besideSeven = (more: Sections): Uint8Array => withFunction(seven, more);

const functions = (count: number): Uint8Array =>
  withFunction(seven, {
    functions: vector(count, repeat(count, 0)),
    code: vector(count, repeat(count, seven)),
  });

const types = (count: number): Uint8Array =>
  besideSeven({ types: vector(count, funcType([], [I32]), repeat(count - 1, funcType([]))) });

/** Imports of one and the same function. */
const imports = (count: number): Uint8Array =>
  moduleBytes({
    types: vector(1, funcType([], [I32])),
    imports: vector(count, repeat(count, named('e'), named('f'), 0, 0)),
    exports: vector(1, exported('f', 'function', count - 1)),
  });

const globals = (count: number): Uint8Array =>
  besideSeven({ globals: vector(count, repeat(count, I32, 0, i32Const(1), END)) });

const tables = (count: number, elements: number): Uint8Array =>
  besideSeven({ tables: vector(count, repeat(count, FUNCREF, 0, uleb(elements))) });

const memories = (count: number, pages: number): Uint8Array =>
  besideSeven({ memories: vector(count, repeat(count, 0, uleb(pages))) });

/** Exports of one function under different names of the same length. */
function exportsOf(count: number): Uint8Array {
  const digits = 7;
  const entry = bytes(exported('x'.repeat(digits), 'function'));
  const all = Buffer.from(repeat(count - 1, entry));
  for (let i = 0; i < count - 1; i++)
    all.write(String(i).padStart(digits, '0'), i * entry.length + 1, 'latin1');
  return besideSeven({ exports: vector(count, exported('f', 'function'), all) });
}

const exportName = (length: number): Uint8Array =>
  besideSeven({ exports: vector(2, exported('f', 'function'), exported('n'.repeat(length), 'function')) });

const importName = (length: number): Uint8Array =>
  besideSeven({ imports: vector(1, named('n'.repeat(length)), named('f'), 0, 0) });

/** Nested instructions with a block each; `before` makes what such an instruction takes from the stack. */
const nested = (depth: number, opcode: number, before: Uint8Array = bytes()): Uint8Array =>
  withFunction(body([repeat(depth, before, opcode, EMPTY), repeat(depth, END), SEVEN]));

/** A body of exactly so many bytes. */
const bodyOf = (length: number): Uint8Array => withFunction(body([repeat(length - BODY_BYTES, NOP), SEVEN]));

const locals = (count: number): Uint8Array =>
  withFunction(body([LOCAL_GET, uleb(count - 1), i32Const(7), I32_ADD], count));

/** A function with so many parameters and results that is called and gives its parameters. */
function passedThrough(params: number, results: number): Uint8Array {
  const give = Array.from({ length: results }, (_, i) => [LOCAL_GET, uleb(i % Math.max(params, 1))]);
  return moduleBytes({
    types: vector(2, funcType([], [I32]), funcType(Array(params).fill(I32), Array(results).fill(I32))),
    functions: vector(2, 0, 1),
    exports: vector(1, exported('f', 'function')),
    code: vector(
      2,
      body([repeat(params, SEVEN), CALL, 1, repeat(results, DROP), SEVEN]),
      body(params === 0 ? repeat(results, SEVEN) : give),
    ),
  });
}

/** A `br_table` all of whose labels lead out of the same block. */
const labels = (count: number): Uint8Array =>
  withFunction(body([BLOCK, EMPTY, i32Const(3), BR_TABLE, vector(count, repeat(count, 0)), 0, END, SEVEN]));

/** So many values on the stack at once, which are added up. */
const operands = (count: number): Uint8Array =>
  withFunction(body([repeat(count, i32Const(1)), repeat(count - 1, I32_ADD)]));

const dataSegments = (count: number, size: number, pages = 1): Uint8Array =>
  besideSeven({
    memories: vector(1, 0, uleb(pages)),
    data: vector(count, repeat(count, 0, i32Const(0), END, vector(size, Buffer.alloc(size, 1)))),
  });

const elementSegments = (count: number, size: number): Uint8Array =>
  besideSeven({
    tables: vector(1, FUNCREF, 0, uleb(size)),
    elements: vector(count, repeat(count, 0, i32Const(0), END, vector(size, repeat(size, 0)))),
  });

const customSections = (count: number): Uint8Array =>
  bytes(besideSeven({}), repeat(count, 0, uleb(2), named('x')));

export const extremeModules: readonly ExtremeModule[] = [
  { name: '100,000 blocks inside one another', make: () => nested(100_000, BLOCK), fate: 7 },
  { name: '20,000 loops inside one another', make: () => nested(20_000, LOOP), fate: 7 },
  { name: '20,000 ifs inside one another', make: () => nested(20_000, IF, i32Const(1)), fate: 7 },
  { name: '30,000 locals', make: () => locals(30_000), fate: 7 },
  {
    name: '30,001 locals',
    make: () => locals(30_001),
    fate: { wasmi: 'internal error when called', wasmer: 7 },
  },
  {
    name: '50,000 locals',
    make: () => locals(50_000),
    fate: { wasmi: 'internal error when called', wasmer: 7 },
  },
  { name: '50,001 locals', make: () => locals(50_001), fate: 'invalid' },
  { name: '4,294,967,295 locals', make: () => locals(0xffff_ffff), fate: 'invalid' },
  { name: '1,000 parameters and results', make: () => passedThrough(1000, 1000), fate: 7 },
  { name: '1,001 parameters', make: () => passedThrough(1001, 0), fate: 'invalid' },
  { name: '1,001 results', make: () => passedThrough(0, 1001), fate: 'invalid' },
  { name: '1,000 values on the stack', make: () => operands(1000), fate: 1000 },
  { name: '65,535 values on the stack', make: () => operands(65_535), fate: 65_535 },
  {
    name: '65,536 values on the stack',
    make: () => operands(65_536),
    fate: { wasmi: 'internal error when called', wasmer: 65_536 },
  },
  { name: '131,072 labels of a br_table', make: () => labels(131_072), fate: 7 },
  // wasmi reads modules by an older version of the same parser, whose limit this is.
  {
    name: '131,073 labels of a br_table',
    make: () => labels(131_073),
    fate: { wasmi: 'invalid', wasmer: 7 },
  },
  {
    name: '1,000,000 labels of a br_table',
    make: () => labels(1_000_000),
    fate: { wasmi: 'invalid', wasmer: 7 },
  },
  { name: 'a body of 7,654,321 bytes', make: () => bodyOf(MOST_BODY_BYTES), fate: 7 },
  { name: 'a body of 7,654,322 bytes', make: () => bodyOf(MOST_BODY_BYTES + 1), fate: 'invalid' },
  {
    name: '1,000,000 functions',
    make: () => functions(1_000_000),
    fate: { wasmi: 7, wasmer: undefined },
  },
  { name: '5,000 functions', make: () => functions(5_000), fate: 7 },
  { name: '1,000,001 functions', make: () => functions(1_000_001), fate: 'invalid' },
  // wasmer makes machine code for each type, also if it has the same already.
  {
    name: '1,000,000 types',
    make: () => types(1_000_000),
    fate: { wasmi: 7, wasmer: undefined },
  },
  { name: '20,000 types', make: () => types(20_000), fate: 7 },
  { name: '1,000,001 types', make: () => types(1_000_001), fate: 'invalid' },
  { name: '1,000 imports of one function', make: () => imports(1000), fate: 7 },
  { name: '1,000,001 imports', make: () => imports(1_000_001), fate: 'invalid' },
  { name: '1,000,000 globals', make: () => globals(1_000_000), fate: 7 },
  { name: '1,000,001 globals', make: () => globals(1_000_001), fate: 'invalid' },
  { name: '100 tables', make: () => tables(100, 1), fate: 7 },
  { name: '101 tables', make: () => tables(101, 1), fate: 'invalid' },
  { name: 'a table of 10,000,000 elements', make: () => tables(1, 10_000_000), fate: 7 },
  { name: 'a table of 10,000,001 elements', make: () => tables(1, 10_000_001), fate: 'over a limit' },
  { name: '100 memories', make: () => memories(100, 1), fate: 7 },
  { name: '101 memories', make: () => memories(101, 1), fate: 'invalid' },
  { name: 'a memory of 65,537 pages', make: () => memories(1, 65_537), fate: 'invalid' },
  { name: '100,000 exports', make: () => exportsOf(100_000), fate: 7 },
  { name: '1,000,001 exports', make: () => exportsOf(1_000_001), fate: 'invalid' },
  { name: 'an export with a name of 100,000 bytes', make: () => exportName(100_000), fate: 7 },
  { name: 'an export with a name of 100,001 bytes', make: () => exportName(100_001), fate: 'invalid' },
  {
    name: 'an import with a name of 100,000 bytes',
    make: () => importName(100_000),
    fate: 'cannot be linked',
  },
  { name: 'an import with a name of 100,001 bytes', make: () => importName(100_001), fate: 'invalid' },
  { name: '100,000 data segments', make: () => dataSegments(100_000, 1), fate: 7 },
  { name: '100,001 data segments', make: () => dataSegments(100_001, 1), fate: 'invalid' },
  { name: 'a data segment of 32 MiB', make: () => dataSegments(1, 32 << 20, 512), fate: 7 },
  {
    name: 'a data segment that is one byte too long',
    make: () => dataSegments(1, 65_537),
    fate: 'cannot be linked',
  },
  { name: '100,000 element segments', make: () => elementSegments(100_000, 1), fate: 7 },
  { name: '100,001 element segments', make: () => elementSegments(100_001, 1), fate: 'invalid' },
  { name: 'an element segment of 1,000,000', make: () => elementSegments(1, 1_000_000), fate: 7 },
  { name: '500,000 custom sections', make: () => customSections(500_000), fate: 7 },
];
