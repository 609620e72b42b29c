/**
 * The six steps of the protocol by which a guest calls its supervisor. Mirrors `dispatch_common`, `dispatch_function` and
 * `dispatch_function_v2` of `gear_sandbox_host::sandbox`. As there, the arguments are freed also when `invoke` fails, and a failed
 * deallocation wins over an earlier failure. Unlike there, a result of the wrong type traps.
 */

import { CodecError } from '../../base/errors';
import { messageOf } from '../../base/message';
import { shortName } from '../../base/short_text';
import { layout, scratchViews } from '../../binding/scratch';
import { HostTrap } from '../../guest/host_trap';
import type { ImportSignature } from '../../guest/signature';
import { decodeDispatchResult, decodeDispatchResultV2 } from '../scale/index';
import type { SupervisorFuncIndex } from '../supervisor';
import { getWord, type ImportEncoding } from './import_encoding';
import { packed } from './packed';
import { PENDING, type ProtocolPeer } from './peer';

const { ints, longs } = scratchViews;
const { GAS } = layout;
const packedWords = packed.words;

/** Ends a step that has failed, unless it only waits. */
function passPending(thrown: unknown): void {
  if (thrown === PENDING) throw thrown;
}

/** The six steps, in their order, and what becomes of their failures. */
export function callByProtocol(
  peer: ProtocolPeer,
  encoding: ImportEncoding,
  funcIdx: SupervisorFuncIndex,
  hasGas: boolean,
): void {
  const taken = peer.take(encoding, hasGas);
  if (encoding.hasSeveralResults) throw severalResults(encoding.signature);
  const size = encoding.sizeOfArguments(hasGas);
  let args: number;
  try {
    args = peer.allocate(size);
  } catch (thrown) {
    passPending(thrown);
    throw new HostTrap("Can't allocate memory in supervisor for the arguments", { value: thrown });
  }
  try {
    peer.send(args, size, taken, encoding, hasGas);
  } catch (thrown) {
    passPending(thrown);
    deallocate(peer, args, 'Failed deallocation after failed write of invoke arguments');
    throw new HostTrap("Can't write invoke args into memory", { value: thrown });
  }
  try {
    peer.call(args, size, funcIdx);
  } catch (thrown) {
    passPending(thrown);
    deallocate(peer, args, 'Failed deallocation after invoke');
    throw HostTrap.is(thrown) ? thrown : new HostTrap(messageOf(thrown), { value: thrown });
  }
  const answerSize = packedWords[0];
  const answerPtr = packedWords[1];
  deallocate(peer, args, 'Failed deallocation after invoke');
  let answer: Uint8Array;
  try {
    answer = peer.receive(answerPtr, answerSize, taken);
  } catch (thrown) {
    passPending(thrown);
    deallocate(peer, answerPtr, "Can't deallocate memory for dispatch thunk's result");
    throw new HostTrap("Can't read the serialized result from dispatch thunk", { value: thrown });
  }
  deallocate(peer, answerPtr, "Can't deallocate memory for dispatch thunk's result");
  const at = peer.answerAt(taken);
  const end = Math.min(at + answerSize, answer.length);
  if (hasGas) takeAnswerWithGas(encoding, answer, at, end);
  else takeAnswer(encoding, answer, at, end);
}

function severalResults({ name }: ImportSignature): HostTrap {
  return new HostTrap(
    `${shortName(name)} has several results, and a ReturnValue has room for one: only a function of a JsSupervisor can answer it`,
  );
}

/** The first byte of an answer that is no error. */
const OK = 0;

/** Writes the answer to the scratch buffer: the usual one as it is; the decoders say what is wrong with any other. */
function takeAnswer(encoding: ImportEncoding, bytes: Uint8Array, at: number, end: number): void {
  if (bytes[at] === OK && encoding.tryWriteEncoded(bytes, at + 1, end)) return;
  const decoded = decode(
    decodeDispatchResult,
    bytes.slice(at, end),
    'Decoding Result<ReturnValue, HostError> failed!',
  );
  if (!decoded.ok) throw new HostTrap('Supervisor function returned sandbox::HostError');
  encoding.signature.writeResult(decoded.value);
}

function takeAnswerWithGas(encoding: ImportEncoding, bytes: Uint8Array, at: number, end: number): void {
  if (bytes[at] === OK && encoding.tryWriteEncoded(bytes, at + 9, end)) {
    ints[2 * GAS] = getWord(bytes, at + 1);
    ints[2 * GAS + 1] = getWord(bytes, at + 5);
    return;
  }
  const decoded = decode(
    decodeDispatchResultV2,
    bytes.slice(at, end),
    'Decoding Result<WasmReturnValue, HostError> failed!',
  );
  if (!decoded.ok) throw new HostTrap('Supervisor function returned sandbox::HostError');
  encoding.signature.writeResult(decoded.value);
  longs[GAS] = decoded.gas;
}

function deallocate(peer: ProtocolPeer, ptr: number, message: string): void {
  try {
    peer.deallocate(ptr);
  } catch (thrown) {
    passPending(thrown);
    throw new HostTrap(message, { value: thrown });
  }
}

function decode<T>(decoder: (bytes: Uint8Array) => T, bytes: Uint8Array, message: string): T {
  try {
    return decoder(bytes);
  } catch (error) {
    throw new HostTrap(message, error instanceof CodecError ? { value: error } : undefined);
  }
}
