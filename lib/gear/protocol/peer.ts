/** The supervisor's side of the six steps: what each step does. `steps.ts` has their order, and what becomes of a failure. */

import type { SupervisorFuncIndex } from '../supervisor';
import type { ImportEncoding } from './import_encoding';

/**
 * Answers a guest's calls by the protocol. A step that fails throws. `Taken` is what a call keeps while code of the
 * supervisor runs: neither the scratch buffer nor what the supervisor has freed can be read afterwards.
 */
export interface ProtocolPeer<Taken = unknown> {
  /** Takes the arguments, and the gas if there is one, out of the scratch buffer. */
  take(encoding: ImportEncoding, hasGas: boolean): Taken;
  /** Makes room for `size` bytes in the supervisor's memory and gives the address. */
  allocate(size: number): number;
  /** Writes the encoded arguments, `size` bytes, to `address`. */
  send(address: number, size: number, taken: Taken, encoding: ImportEncoding, hasGas: boolean): void;
  /** Runs the function with that index, and leaves its packed answer in `packed`. */
  call(address: number, size: number, funcIdx: SupervisorFuncIndex): void;
  /** Gives bytes that hold a copy of the answer, from {@link ProtocolPeer.answerAt} on, as much of it as can mean something. */
  receive(address: number, size: number, taken: Taken): Uint8Array;
  answerAt(taken: Taken): number;
  /** Gives the room at `address` back. */
  deallocate(address: number): void;
}

/**
 * Thrown by a step that waits for a Promise: no failure. Once that is settled the steps run again, those that are done by what they
 * came to then, see `async_peer.ts`.
 */
export const PENDING = Symbol('pending');
