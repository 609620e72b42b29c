/**
 * What calls by the protocol must keep while code of the supervisor runs: the guest's arguments, which that code may overwrite in the scratch
 * buffer, and the supervisor's answer, which is gone once its memory is freed. Each such call has a frame on a stack in one buffer, because
 * calls nest. So a call makes no objects.
 */

/** The most bytes of an answer that mean something: those of an `Ok(WasmReturnValue)` with a value of 64 bits. */
export const ANSWER_BYTES = 19;
/** The fewest words of a frame: those of an answer, which overwrites the arguments. */
const LEAST_WORDS = Math.ceil(ANSWER_BYTES / 4);
const FIRST_WORDS = 4096;

/** A stack of frames. A frame is the number of its first word; it stays where it is, but `words` and `bytes` may be replaced. */
class Frames {
  /** All frames. Read it anew after anything else has run. */
  words = new Int32Array(FIRST_WORDS);
  /** The same as bytes: frame `f` begins at byte `4 * f`. */
  bytes = new Uint8Array(this.words.buffer);
  /** Where the next frame begins. */
  top = 0;

  /** Opens a frame of so many words. */
  push(words: number): number {
    const frame = this.top;
    const top = frame + Math.max(LEAST_WORDS, words);
    if (top > this.words.length) this.#grow(top);
    this.top = top;
    return frame;
  }

  #grow(top: number): void {
    const words = new Int32Array(2 * top);
    words.set(this.words);
    this.words = words;
    this.bytes = new Uint8Array(words.buffer);
  }
}

/** The frames of this environment, whose guests run one inside another. */
export const frames = new Frames();

/** Copies an answer to the beginning of a frame, as much of it as can mean something, and gives the bytes of all frames. */
export function keepAnswer(bytes: Uint8Array, address: number, size: number, frame: number): Uint8Array {
  const kept = frames.bytes;
  const count = Math.min(size, ANSWER_BYTES);
  for (let index = 0, at = 4 * frame; index < count; index += 1, at += 1) kept[at] = bytes[address + index];
  return kept;
}
