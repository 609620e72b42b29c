/**
 * A small chain node in the style of Gear. Its programs have gas (`Instantiate.Version2`). A program's own code charges gas for its work,
 * and the node charges gas for what it does for the program. Two guests share one memory: a ledger, and an auditor that the node calls while
 * the ledger runs. A message that runs out of gas has no effect, except that its gas is burned. `docs/guides/from-gear.md` maps the names of
 * the Rust crates.
 * `node --require ts-node/register examples/chain_node.ts`
 */

import {
  EnvironmentDefinitionBuilder,
  GuestEnvironment,
  Instantiate,
  JsSupervisor,
  type Memory,
  SandboxBackend,
  SandboxComponents,
  type SandboxInstance,
  type SupervisorFunction,
  TrapError,
  Value,
} from 'sandbox-host';
import wabt from 'wabt';

const LEDGER = `(module
  (import "env" "memory" (memory 1))
  (import "env" "out_of_gas" (func $out_of_gas))
  (import "env" "emit" (func $emit (param $ptr i32) (param $len i32)))
  (import "env" "supply" (func $supply (result i64)))
  (global $gas (export "gear_gas") (mut i64) (i64.const 0))
  (data (i32.const 1024) "mintedmoved")

  ;; On a chain, instrumentation inserts this call at the beginning of each block of code.
  (func $charge (param $price i64)
    (if (i64.lt_u (global.get $gas) (local.get $price)) (then (call $out_of_gas) unreachable))
    (global.set $gas (i64.sub (global.get $gas) (local.get $price))))

  ;; There are sixteen accounts. Their balances start at address 0.
  (func $add (param $account i32) (param $amount i64) (local $at i32)
    (local.set $at (i32.shl (i32.and (local.get $account) (i32.const 15)) (i32.const 3)))
    (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (local.get $amount))))
  (func $balance (param $account i32) (result i64)
    (i64.load (i32.shl (i32.and (local.get $account) (i32.const 15)) (i32.const 3))))

  ;; There are at most 1,000 coins.
  (func (export "mint") (param $to i32) (param $amount i64) (result i32)
    (call $charge (i64.const 20))
    (if (i64.gt_u (i64.add (call $supply) (local.get $amount)) (i64.const 1000)) (then (return (i32.const 0))))
    (call $add (local.get $to) (local.get $amount))
    (call $emit (i32.const 1024) (i32.const 6))
    (i32.const 1))

  (func (export "transfer") (param $from i32) (param $to i32) (param $amount i64) (result i32)
    (call $charge (i64.const 30))
    (if (i64.lt_u (call $balance (local.get $from)) (local.get $amount)) (then (return (i32.const 0))))
    (call $add (local.get $from) (i64.sub (i64.const 0) (local.get $amount)))
    (call $add (local.get $to) (local.get $amount))
    (call $emit (i32.const 1030) (i32.const 5))
    (i32.const 1))

  (func (export "spin") (result i32)
    (loop $again (call $charge (i64.const 3)) (br $again))
    unreachable))`;

/** Calls no supervisor function, so it needs no gas. */
const AUDITOR = `(module
  (import "env" "memory" (memory 1))
  (func (export "supply") (result i64) (local $at i32) (local $sum i64)
    (loop $next
      (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 128))))
    (local.get $sum)))`;

/** The gas that the node charges for its functions. */
const PRICES = { supply: 50n, emit: 100n, emitPerByte: 2n };

/** Thrown when a program cannot pay. */
class OutOfGas extends Error {}

/** The outcome of a message. */
interface Receipt {
  readonly result: string;
  readonly burned: bigint;
  readonly events: readonly string[];
}

/** A node with one program and everything that belongs to it. */
class ChainNode {
  readonly #components: SandboxComponents;
  readonly #supervisor = new JsSupervisor();
  readonly #memory: Memory;
  readonly #ledger: SandboxInstance;
  readonly #auditor: SandboxInstance;
  #events: string[] = [];

  constructor(backend: SandboxBackend, ledger: Uint8Array, auditor: Uint8Array) {
    // All nodes of a chain must compute the same results, whatever machine they run on.
    const components = new SandboxComponents(backend, { deterministic: true });
    const index = components.newMemory(1, 1);
    const definition = new EnvironmentDefinitionBuilder().addMemory('env', 'memory', index);
    const functions: Record<string, SupervisorFunction> = {
      out_of_gas: () => this.#outOfGas(),
      emit: ([ptr, len], { gas }) => this.#emit(unsigned(ptr), unsigned(len), gas),
      supply: (_, { gas }) => this.#supply(gas),
    };
    for (const [name, fn] of Object.entries(functions)) {
      definition.addHostFunc('env', name, this.#supervisor.define(fn));
    }
    const env = GuestEnvironment.decode(components, definition.encode());
    const make = (wasm: Uint8Array): SandboxInstance => {
      const made = components.instantiate(Instantiate.Version2, wasm, env, this.#supervisor);
      return components.instance(made.register(components, undefined));
    };
    this.#components = components;
    this.#memory = components.memory(index);
    // Both import the memory. Each imports only the functions that it needs.
    this.#ledger = make(ledger);
    this.#auditor = make(auditor);
  }

  /** Runs a message with `gasLimit` gas. If the program fails, its changes to the memory are undone, but it still pays. */
  execute(exportName: string, args: readonly Value[], gasLimit: bigint): Receipt {
    const before = this.#memory.read(0, this.#memory.memorySize() * PAGE_BYTES);
    this.#events = [];
    this.#ledger.setGlobalVal(GAS, Value.I64(gasLimit));
    try {
      const result = this.#ledger.invoke(exportName, args, this.#supervisor);
      const isDone = result !== undefined && !Array.isArray(result) && Value.toNumber(result) === 1;
      return {
        result: isDone ? 'done' : 'refused',
        burned: gasLimit - this.#gasLeft(),
        events: this.#events,
      };
    } catch (error) {
      // Any other error is a fault of the node.
      if (!(error instanceof TrapError)) throw error;
      this.#memory.writeFrom(0, before);
      // A supervisor call that fails leaves the gas unchanged. A program that cannot pay loses all its remaining gas.
      const isOut = error.cause instanceof OutOfGas;
      if (isOut) this.#ledger.setGlobalVal(GAS, Value.I64(0n));
      return {
        result: isOut ? 'out of gas' : `trapped with ${error.trap}`,
        burned: gasLimit - this.#gasLeft(),
        events: [],
      };
    }
  }

  get balances(): bigint[] {
    return [...new BigInt64Array(this.#memory.buffer, 0, ACCOUNTS)];
  }

  #gasLeft(): bigint {
    const gas = this.#ledger.getGlobalVal(GAS);
    if (gas?.type !== 'i64') throw new Error('the ledger has no gas');
    return gas.value;
  }

  // The supervisor functions receive the remaining gas and return what is left after their price. If they throw, the guest traps.

  #outOfGas(): never {
    throw new OutOfGas();
  }

  #emit(ptr: number, len: number, gas: bigint | undefined): { gas: bigint } {
    // Charge first, then work.
    const left = pay(gas, PRICES.emit + PRICES.emitPerByte * BigInt(len));
    this.#events.push(Buffer.from(this.#memory.read(ptr, len)).toString());
    return { gas: left };
  }

  #supply(gas: bigint | undefined): { gas: bigint; value: Value } {
    const left = pay(gas, PRICES.supply);
    // The ledger is in the middle of a call. The auditor reads what the ledger has written so far.
    const value = this.#auditor.invoke('supply', [], this.#supervisor);
    if (value === undefined || Array.isArray(value)) throw new Error('the auditor gave no number');
    return { gas: left, value };
  }

  [Symbol.dispose](): void {
    this.#components.clear();
  }
}

/** Subtracts a price from a guest's remaining gas. */
function pay(gas: bigint | undefined, price: bigint): bigint {
  if (gas === undefined) throw new Error('gas is for guests of Instantiate.Version2');
  if (gas < price) throw new OutOfGas();
  return gas - price;
}

/** Addresses and lengths are unsigned, but an i32 `Value` is signed. */
function unsigned(value: Value): number {
  return Value.toNumber(value) >>> 0;
}

const GAS = 'gear_gas';
const PAGE_BYTES = 65_536;
const ACCOUNTS = 16;

const { I32, I64 } = Value;

const MESSAGES: readonly (readonly [name: string, args: readonly Value[], gasLimit: bigint])[] = [
  ['mint', [I32(0), I64(900n)], 1000n],
  ['mint', [I32(0), I64(200n)], 1000n],
  ['transfer', [I32(0), I32(1), I64(300n)], 1000n],
  ['transfer', [I32(1), I32(2), I64(500n)], 1000n],
  // The ledger has already moved the coins when the node asks more for the event than is left.
  ['transfer', [I32(0), I32(2), I64(100n)], 130n],
  // The ledger's own code stops this one.
  ['spin', [], 100_000n],
];

async function main(): Promise<void> {
  const { parseWat } = await wabt();
  const compile = (name: string, wat: string): Uint8Array => parseWat(`${name}.wat`, wat).toBinary({}).buffer;
  const ledger = compile('ledger', LEDGER);
  const auditor = compile('auditor', AUDITOR);

  for (const backend of Object.values(SandboxBackend)) {
    using node = new ChainNode(backend, ledger, auditor);
    for (const [name, args, gasLimit] of MESSAGES) {
      const { result, burned, events } = node.execute(name, args, gasLimit);
      const call = `${name}(${args.map(Value.toNumber).join(', ')})`;
      const told = events.map((event) => `, "${event}"`).join('');
      console.log(`${backend}: ${call} with ${gasLimit} gas: ${result}, ${burned} burned${told}`);
    }
    console.log(`${backend}: balances: ${node.balances.slice(0, 3).join(', ')}`);
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
