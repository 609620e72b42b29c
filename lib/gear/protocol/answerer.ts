/** Answers guests by the six steps of the protocol. */

import type { Answerer, HostRequest, Reply, Settled } from '../../guest/answerer';
import type { CallingGuest } from '../calling_guest';
import type { AsyncSupervisorContext, SupervisorContext, SupervisorFuncIndex } from '../supervisor';
import { AsyncContextPeer } from './async_peer';
import { ContextPeer } from './context_peer';
import { frames as framesOf } from './frames';
import { encodingsOf, type ImportEncoding } from './import_encoding';
import { PENDING, type ProtocolPeer } from './peer';
import { callByProtocol as callByProtocolOf } from './steps';

const frames = framesOf;
const callByProtocol = callByProtocolOf;

/** Answers one guest by one peer. */
export class ProtocolAnswerer implements Answerer {
  readonly guest: CallingGuest;
  readonly #peer: ProtocolPeer;
  /** Looked up once: anybody can patch `WeakMap.prototype.get`, and no code of others may run before a call is read out of the scratch buffer. */
  protected readonly encodings: readonly ImportEncoding[];

  constructor(guest: CallingGuest, peer: ProtocolPeer) {
    this.guest = guest;
    this.#peer = peer;
    this.encodings = encodingsOf(guest.functionImports);
  }

  answer(index: number, hasCarried: boolean): void {
    const { top } = frames;
    try {
      callByProtocol(this.#peer, this.encodings[index], this.guest.functions[index], hasCarried);
    } finally {
      frames.top = top;
    }
  }
}

/** Answers one guest by a `SupervisorContext`, which in asynchronous calls may be an {@link AsyncSupervisorContext}. */
export class ContextAnswerer extends ProtocolAnswerer {
  readonly #ctx: AsyncSupervisorContext;

  constructor(guest: CallingGuest, ctx: SupervisorContext | AsyncSupervisorContext) {
    // Synchronous calls are given only what has been checked.
    super(guest, new ContextPeer(ctx as SupervisorContext));
    this.#ctx = ctx;
  }

  receive(index: number, hasCarried: boolean): HostRequest {
    return new ProtocolRequest(this.guest, this.#ctx, this.encodings[index], index, hasCarried);
  }
}

/** A call of a guest on another thread. */
class ProtocolRequest implements HostRequest {
  readonly #peer: AsyncContextPeer;
  readonly #encoding: ImportEncoding;
  readonly #function: SupervisorFuncIndex;
  readonly #hasGas: boolean;

  constructor(
    { functions }: CallingGuest,
    ctx: AsyncSupervisorContext,
    encoding: ImportEncoding,
    index: number,
    hasGas: boolean,
  ) {
    this.#peer = new AsyncContextPeer(ctx, encoding.encodeArguments(hasGas));
    this.#encoding = encoding;
    this.#function = functions[index];
    this.#hasGas = hasGas;
  }

  answer(reply: Reply): boolean {
    const peer = this.#peer;
    try {
      this.#run();
    } catch (thrown) {
      if (thrown !== PENDING || peer.pending === undefined) throw thrown;
      reply.putOff();
      const go = (settled: Settled): void => {
        peer.settle(settled);
        this.answer(reply);
      };
      const ended = (settled: Settled): void => {
        peer.abandon();
        peer.settle(settled);
        this.#free();
      };
      reply.whenSettled(
        peer.pending,
        (value) => go({ value }),
        (thrown) => go({ thrown }),
        ended,
      );
      return false;
    }
    reply.succeed();
    return true;
  }

  #run(): void {
    this.#peer.begin();
    callByProtocol(this.#peer, this.#encoding, this.#function, this.#hasGas);
  }

  close(): void {}

  /** Takes the steps that free what the steps of a call that was ended have allocated. */
  #free(): void {
    const peer = this.#peer;
    try {
      this.#run();
    } catch {
      // Nobody waits for what becomes of it.
      if (peer.pending === undefined) return;
      const go = (settled: Settled): void => {
        peer.settle(settled);
        this.#free();
      };
      Promise.resolve(peer.pending).then(
        (value) => go({ value }),
        (thrown) => go({ thrown }),
      );
    }
  }
}
