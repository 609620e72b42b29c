/**
 * An `AsyncSupervisorContext` as the other side of the six steps, which stand once, in `steps.ts`, and know no Promises. When a step
 * gives one, the steps are left by throwing `PENDING`; once it is settled they run again from the first, and what has been done already
 * gives what it came to then.
 */

import { types } from 'node:util';
import type { Settled } from '../../guest/answerer';
import { HostTrap } from '../../guest/host_trap';
import type { AsyncSupervisorContext, SupervisorContext } from '../supervisor';
import { answerOf, ContextPeer } from './context_peer';
import { PENDING } from './peer';

/** The supervisor for one call of a guest. */
export class AsyncContextPeer extends ContextPeer {
  readonly #done: Settled[] = [];
  #next = 0;
  readonly #taken: Uint8Array;
  #isAbandoned = false;
  /** What the last run waits for. */
  pending: PromiseLike<unknown> | undefined;

  /** @param taken - the encoded arguments */
  constructor(ctx: AsyncSupervisorContext, taken: Uint8Array) {
    const step = (run: () => unknown, isNeeded = false): unknown =>
      (this as AsyncContextPeer).#step(run, isNeeded);
    const settled: SupervisorContext = {
      invoke: (ptr, size, funcIdx) => step(() => ctx.invoke(ptr, size, funcIdx)) as bigint,
      readMemoryInto(address, dest) {
        const bytes = step(() => {
          const target = new Uint8Array(dest.length);
          const done = ctx.readMemoryInto(address, target);
          return isThenable(done) ? Promise.resolve(done).then(() => target) : target;
        });
        dest.set(bytes as Uint8Array);
      },
      ...(ctx.readMemory === undefined
        ? {}
        : {
            readMemory: (address, size) =>
              step(() => {
                const bytes: unknown = ctx.readMemory?.(address, size);
                return isThenable(bytes) ? Promise.resolve(bytes).then(kept) : kept(bytes);
              }) as Uint8Array,
          }),
      writeMemory: (address, data) => step(() => ctx.writeMemory(address, data)) as undefined,
      allocateMemory: (size) => step(() => ctx.allocateMemory(size)) as number,
      deallocateMemory: (ptr) => step(() => ctx.deallocateMemory(ptr), true) as undefined,
    };
    super(settled);
    this.#taken = taken;
  }

  /** To be called before each run of the steps. */
  begin(): void {
    this.#next = 0;
    this.pending = undefined;
  }

  /** What the last run waited for is settled. */
  settle(done: Settled): void {
    this.#done.push(done);
  }

  /** The guest's call was ended. From now on the steps only free what they have allocated. */
  abandon(): void {
    this.#isAbandoned = true;
  }

  /** The scratch buffer had the arguments before this object was made. */
  override take(): Uint8Array {
    return this.#taken;
  }

  #step(run: () => unknown, isNeeded: boolean): unknown {
    const known = this.#done[this.#next];
    this.#next += 1;
    if (known === undefined) {
      if (this.#isAbandoned && !isNeeded) throw new HostTrap('the call was ended');
      return this.#firstTime(run);
    }
    if ('thrown' in known) throw known.thrown;
    return known.value;
  }

  #firstTime(run: () => unknown): unknown {
    let value: unknown;
    try {
      value = run();
      if (isThenable(value)) {
        this.pending = value;
      }
    } catch (thrown) {
      this.#done.push({ thrown });
      throw thrown;
    }
    if (this.pending !== undefined) throw PENDING;
    this.#done.push({ value });
    return value;
  }
}

/** A copy of what was read, because it may be a view of memory that will have been freed when the steps run again. */
function kept(bytes: unknown): unknown {
  return types.isUint8Array(bytes) ? answerOf(bytes) : bytes;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  );
}
