/**
 * A module of about 1 MB that is the same at each run: two thousand different functions of arithmetic, memory accesses,
 * branches and loops, as a compiler's output has them. Written as a binary, because a text of that size takes longer to
 * parse than everything that is measured with it. Format: https://webassembly.github.io/spec/core/binary/
 */

const FUNCTIONS = 2000;
/** Every fourth function calls others, which call none: `main` must not run for long. */
const CALLER_EVERY = 4;
const CALLS_OF_MAIN = 40;
const STATEMENTS = 12;

/** Locals of every function: two parameters of i32, then these. */
const [I32_LOCALS, I64_LOCALS] = [4, 2];
const COUNTER = 2 + I32_LOCALS + I64_LOCALS;
const LOOP_ROUNDS = 3;

const [I32, I64, FUNC, EMPTY] = [0x7f, 0x7e, 0x60, 0x40];
/** By opcode, none of which can trap. */
const I32_BINARY = [0x6a, 0x6b, 0x6c, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x46, 0x48, 0x4b];
const I64_BINARY = [0x7c, 0x7d, 0x7e, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89];
const [LOCAL_GET, LOCAL_SET, LOCAL_TEE, CALL, END, IF, ELSE, LOOP, BR_IF] = [
  0x20, 0x21, 0x22, 0x10, 0x0b, 0x04, 0x05, 0x03, 0x0d,
];
const [I32_CONST, I64_CONST, I32_LOAD, I64_LOAD, I32_STORE, I64_STORE] = [0x41, 0x42, 0x28, 0x29, 0x36, 0x37];
const [I32_ADD, I32_SUB, I32_AND, I32_CLZ, I32_WRAP_I64, I64_EXTEND_I32_U] = [
  0x6a, 0x6b, 0x71, 0x67, 0xa7, 0xad,
];

/** The module; it exports `main` with two i32 parameters and an i32 result. */
export function largeModule(): Uint8Array {
  const random = randomNumbers(0x5eed);
  const bodies = Array.from({ length: FUNCTIONS }, (_, index) => body(index, random));
  bodies.push(mainBody());
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, vector([[FUNC, ...vector([[I32], [I32]]), ...vector([[I32]])]])),
    ...section(3, vector(bodies.map(() => [0]))),
    ...section(5, vector([[0, 1]])),
    ...section(7, vector([[...name('main'), 0, ...unsigned(FUNCTIONS)]])),
    ...section(10, vector(bodies)),
  ]);
}

/** The same module in other bytes: with a custom section at the end that holds a number. */
export function withCustomSection(wasm: Uint8Array, number: number): Uint8Array {
  const added = section(0, [...name('salt'), ...unsigned(number)]);
  const bytes = new Uint8Array(wasm.length + added.length);
  bytes.set(wasm);
  bytes.set(added, wasm.length);
  return bytes;
}

// Functions

type Random = (below: number) => number;

function body(index: number, random: Random): number[] {
  const callees = index > 0 && index % CALLER_EVERY === 0 ? index : 0;
  const statements = Array.from({ length: STATEMENTS }, () => statement(random, callees));
  return functionBody([...statements.flat(), ...i32Expression(random, 3)]);
}

function mainBody(): number[] {
  const calls = Array.from({ length: CALLS_OF_MAIN }, (_, call) => [
    ...[LOCAL_GET, 0],
    ...[I32_CONST, ...signed(call)],
    ...[CALL, ...unsigned(Math.floor((call * FUNCTIONS) / CALLS_OF_MAIN))],
    ...[LOCAL_SET, 0],
  ]);
  return functionBody([...calls.flat(), LOCAL_GET, 0]);
}

function functionBody(code: number[]): number[] {
  const locals = vector([
    [I32_LOCALS, I32],
    [I64_LOCALS, I64],
    [1, I32],
  ]);
  return sized([...locals, ...code, END]);
}

function statement(random: Random, callees: number): number[] {
  switch (random(callees > 0 ? 6 : 5)) {
    case 0:
      return [...i32Expression(random, 3), LOCAL_SET, 2 + random(I32_LOCALS)];
    case 1:
      return [...i64Expression(random, 3), LOCAL_SET, 2 + I32_LOCALS + random(I64_LOCALS)];
    case 2:
      return [...address(random), ...i64Expression(random, 2), I64_STORE, 3, ...unsigned(8 * random(64))];
    case 3: {
      const [yes, no] = [assignment(random), assignment(random)];
      return [...i32Expression(random, 2), IF, EMPTY, ...yes, ELSE, ...no, END];
    }
    case 4: {
      const count = [LOCAL_GET, COUNTER, I32_CONST, 1, I32_SUB, LOCAL_TEE, COUNTER];
      const store = [...address(random), ...i32Expression(random, 2), I32_STORE, 2, 0];
      const start = [I32_CONST, LOOP_ROUNDS, LOCAL_SET, COUNTER];
      return [...start, LOOP, EMPTY, ...assignment(random), ...store, ...count, BR_IF, 0, END];
    }
    default: {
      const callee = random(Math.floor(callees / CALLER_EVERY)) * CALLER_EVERY + 1;
      const args = [...i32Expression(random, 1), ...i32Expression(random, 1)];
      return [...args, CALL, ...unsigned(callee), LOCAL_SET, 2 + random(I32_LOCALS)];
    }
  }
}

function assignment(random: Random): number[] {
  return [...i32Expression(random, 2), LOCAL_SET, 2 + random(I32_LOCALS)];
}

/** An address that lies in the memory's only page, with room for the offsets that are used. */
function address(random: Random): number[] {
  return [...i32Expression(random, 1), I32_CONST, ...signed(0x7ff8), I32_AND];
}

function i32Expression(random: Random, depth: number): number[] {
  if (depth === 0) {
    if (random(3) === 0) return [I32_CONST, ...signed(random(0x7fff_ffff))];
    return [LOCAL_GET, random(2 + I32_LOCALS)];
  }
  switch (random(6)) {
    case 0:
      return [...i32Expression(random, depth - 1), I32_CLZ, LOCAL_GET, random(2 + I32_LOCALS), I32_ADD];
    case 1:
      return [...address(random), I32_LOAD, 2, ...unsigned(4 * random(128))];
    case 2:
      return [...i64Expression(random, depth - 1), I32_WRAP_I64];
    default: {
      const operator = I32_BINARY[random(I32_BINARY.length)];
      return [...i32Expression(random, depth - 1), ...i32Expression(random, depth - 1), operator];
    }
  }
}

function i64Expression(random: Random, depth: number): number[] {
  if (depth === 0) {
    if (random(3) === 0) return [I64_CONST, ...signed(random(0x7fff_ffff))];
    return [LOCAL_GET, 2 + I32_LOCALS + random(I64_LOCALS)];
  }
  switch (random(6)) {
    case 0:
      return [...i32Expression(random, depth - 1), I64_EXTEND_I32_U];
    case 1:
      return [...address(random), I64_LOAD, 3, ...unsigned(8 * random(64))];
    default: {
      const operator = I64_BINARY[random(I64_BINARY.length)];
      return [...i64Expression(random, depth - 1), ...i64Expression(random, depth - 1), operator];
    }
  }
}

/** Marsaglia's xorshift. */
function randomNumbers(seed: number): Random {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

// The binary format

function section(id: number, content: number[]): number[] {
  return [id, ...unsigned(content.length), ...content];
}

function vector(items: readonly number[][]): number[] {
  return unsigned(items.length).concat(items.flat());
}

function sized(content: number[]): number[] {
  return unsigned(content.length).concat(content);
}

function name(text: string): number[] {
  return sized([...Buffer.from(text)]);
}

/** LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return bytes;
}

/** Signed LEB128 of a number that is not negative: the last byte's bit 6 must be clear. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x3f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return bytes;
}
