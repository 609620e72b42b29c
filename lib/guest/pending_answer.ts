import type { AsyncResource } from 'node:async_hooks';
import { hot } from '../binding/native';
import { layout, scratchViews } from '../binding/scratch';
import type { HostRequest, Reply, Settled } from './answerer';
import { type OpenCall, type OpenHostCall, runAsPartOf } from './call_context';
import { type HostCallEvent, hostCalls } from './diagnostics';
import { HostTrap } from './host_trap';

const { words } = scratchViews;
const { WORD_CALL, WORD_FUNC, WORD_HAS_GAS, WORD_HAS_THROWN } = layout;

/** An asynchronous call, from when it is made until its Promise is settled. */
export interface AsyncCall extends OpenCall {
  /** 0 until native code has given it one. */
  id: number;
  /** Brings the caller's own async context back. */
  readonly scope: AsyncResource;
  /** The host call that the guest made last. */
  pending: PendingAnswer | undefined;
  thrown: { readonly thrown: unknown } | undefined;
  /** Whether a signal has stopped it before it had a number. */
  isStopped: boolean;
  /** The call is over: takes out of the scratch buffer what it came to, and gives what tells the caller. */
  end: (event: number) => () => void;
}

/** A host call of a guest on another thread, until it is answered. */
export class PendingAnswer implements OpenHostCall, Reply {
  readonly call: AsyncCall;
  isOpen = true;
  /** What subscribers are told, if there were any when the host call began. */
  event: HostCallEvent | undefined;
  /** Which of its imports the guest calls. */
  readonly index = words[WORD_FUNC];
  #isPutOff = false;
  #request: HostRequest | undefined;
  /** Why the arguments could not be read: there may be no memory for them. */
  #unread: { readonly error: unknown } | undefined;
  readonly #afterAnswer: () => void;

  /**
   * Takes what the guest asks out of the scratch buffer, before any code of others runs.
   *
   * @param afterAnswer - called when an answer that took time is given: the guest may ask again at once
   */
  constructor(call: AsyncCall, afterAnswer: () => void) {
    this.call = call;
    this.#afterAnswer = afterAnswer;
    try {
      this.#request = call.answerer?.receive?.(this.index, words[WORD_HAS_GAS] === 1);
    } catch (error) {
      this.#unread = { error };
    }
  }

  /** Answers, or begins to. Returns whether the guest has its answer. */
  answer(): boolean {
    if (this.#unread !== undefined) throw this.#unread.error;
    if (this.#request === undefined) throw new HostTrap('nobody answers the guest in asynchronous calls');
    return this.#request.answer(this);
  }

  putOff(): void {
    if (this.#isPutOff) return;
    this.#isPutOff = true;
    words[WORD_CALL] = this.call.id;
    hot.putOff();
  }

  succeed(): void {
    this.#give(0);
  }

  fail(thrown: unknown): void {
    this.call.thrown = { thrown };
    if (this.event !== undefined) this.event.error = thrown;
    this.#give(1);
  }

  whenSettled(
    promise: PromiseLike<unknown>,
    fulfilled: (value: unknown) => void,
    rejected: (reason: unknown) => void = (thrown) => this.fail(thrown),
    ended: (settled: Settled) => void = () => {},
  ): void {
    Promise.resolve(promise).then(
      (value) => (this.isOpen ? this.#continue(fulfilled, value) : ended({ value })),
      (thrown) => (this.isOpen ? this.#continue(rejected, thrown) : ended({ thrown })),
    );
  }

  /** The guest's call was ended before the answer was there. */
  stop(): void {
    this.#close();
    if (this.event !== undefined) this.event.isStopped = true;
    this.#tellSettled();
  }

  #continue(next: (outcome: unknown) => void, outcome: unknown): void {
    runAsPartOf(this.call, this.call.answerer, () => {
      try {
        next(outcome);
      } catch (thrown) {
        this.fail(thrown);
      }
    });
    if (!this.isOpen) this.#afterAnswer();
  }

  #give(hasThrown: number): void {
    this.#close();
    words[WORD_CALL] = this.call.id;
    words[WORD_HAS_THROWN] = hasThrown;
    hot.answer();
    this.#tellSettled();
  }

  #close(): void {
    this.isOpen = false;
    this.#request?.close();
  }

  /** Tells subscribers that a host call is over whose answer took time. */
  #tellSettled(): void {
    if (this.event === undefined || !this.#isPutOff) return;
    if ('error' in this.event) hostCalls.publish('error', this.event);
    hostCalls.publish('asyncStart', this.event);
    hostCalls.publish('asyncEnd', this.event);
  }
}
