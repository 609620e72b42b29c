/**
 * A WebAssembly supervisor as the peer of the six-step protocol: without copies, and without allocating
 * objects for a call.
 */

import { keepAnswer } from '../protocol/frames';
import type { ImportEncoding } from '../protocol/import_encoding';
import { packed } from '../protocol/packed';
import type { ProtocolPeer } from '../protocol/peer';
import type { SupervisorFuncIndex } from '../supervisor';
import { allocate as allocateIn, type SupervisorAllocator } from './allocator';
import { callerOf, type DispatchThunk, type ThunkCaller } from './dispatch_thunk';
import type { SupervisorMemory } from './supervisor_memory';

const allocate = allocateIn;
const packedWords = packed.words;

/**
 * The supervisor for one run of a guest. What a call keeps while supervisor code runs is the number of a
 * frame.
 */
export class WasmSupervisor implements ProtocolPeer<number> {
  readonly thunk: DispatchThunk;
  /** The state that the supervisor passed for its thunk. */
  readonly state: number;
  readonly #memory: SupervisorMemory;
  readonly #allocator: SupervisorAllocator;
  #call: ThunkCaller | undefined;
  /** Holds the length of the answer after a call. */
  #length: Uint32Array = new Uint32Array(1);

  constructor(memory: SupervisorMemory, allocator: SupervisorAllocator, thunk: DispatchThunk, state: number) {
    this.#memory = memory;
    this.#allocator = allocator;
    this.thunk = thunk;
    this.state = state;
  }

  take(encoding: ImportEncoding): number {
    return encoding.pushFrame();
  }

  allocate(size: number): number {
    return allocate(this.#allocator, size);
  }

  send(address: number, size: number, frame: number, encoding: ImportEncoding, hasGas: boolean): void {
    encoding.encodeFrame(frame, hasGas, this.#memory.at(address, size), address);
  }

  call(address: number, size: number, funcIdx: SupervisorFuncIndex): void {
    const call = this.#call ?? this.#firstCall();
    packedWords[1] = call(address, size, this.state, funcIdx);
    packedWords[0] = this.#length[0];
  }

  receive(address: number, size: number, frame: number): Uint8Array {
    return keepAnswer(this.#memory.at(address, size), address, size, frame);
  }

  answerAt(frame: number): number {
    return 4 * frame;
  }

  deallocate(address: number): void {
    this.#allocator.deallocate(address);
  }

  #firstCall(): ThunkCaller {
    const { call, length } = callerOf(this.thunk);
    this.#call = call;
    this.#length = length;
    return call;
  }
}
