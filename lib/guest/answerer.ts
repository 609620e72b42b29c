/**
 * What the layers above implement to have their guests' calls answered. This layer runs guests and knows no supervisor.
 */

import type { HostCallEvent } from './diagnostics';
import type { ImportSignature } from './signature';

/** A running guest, as seen by its calls. */
export interface GuestView {
  /** The functions that it imports, in the order of its module. */
  readonly functionImports: readonly ImportSignature[];
  /** What subscribers are told of a call of the imported function `index`. */
  describeCall(index: number, isAsync: boolean): HostCallEvent;
}

/**
 * Answers the calls that come out of a guest. One object serves any number of calls of the guest.
 *
 * `answer` is called at one place, which stays fast as long as there are no more than four classes of answerers.
 */
export interface Answerer {
  readonly guest: GuestView;
  /**
   * Answers a call of the imported function `index`. The arguments stand in the scratch buffer, where the results are to be left. What it
   * throws traps the guest.
   *
   * @param hasCarried - whether the guest has a global that travels with its calls; its value stands in the scratch buffer too
   */
  answer(index: number, hasCarried: boolean): void;
  /**
   * Takes a call that was made in an asynchronous call out of the scratch buffer. It must run no code of users. Without this method the
   * answerer serves synchronous calls only.
   */
  receive?(index: number, hasCarried: boolean): HostRequest;
}

/** A call that came out of a guest on another thread, with its arguments. */
export interface HostRequest {
  /** Answers the call by `reply`, now or later. Returns whether the guest has its answer. What it throws traps the guest. */
  answer(reply: Reply): boolean;
  /** Called when the guest has its answer, or needs none any more. */
  close(): void;
}

/** How a {@link HostRequest} is answered. */
export interface Reply {
  /** Tells the guest that the answer takes time. */
  putOff(): void;
  /** The results stand in the scratch buffer. */
  succeed(): void;
  /** The guest traps. */
  fail(thrown: unknown): void;
  /**
   * Continues when a Promise is settled. If the guest's call was ended meanwhile, nobody waits for the answer any more, and only `ended`
   * is called, to clear up.
   */
  whenSettled(
    promise: PromiseLike<unknown>,
    fulfilled: (value: unknown) => void,
    rejected?: (reason: unknown) => void,
    ended?: (settled: Settled) => void,
  ): void;
}

/** What a Promise, or a step that was no Promise, came to. */
export type Settled = { readonly value: unknown } | { readonly thrown: unknown };
