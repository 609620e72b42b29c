import { copyInto, lengthOf } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { watchCollections } from '../binding/collections';
import { kindOf, translate } from '../binding/failures';
import { hot, native } from '../binding/native';

/** Reads of more bytes than this skip filling the result with zeros first, which costs as much as the copy. */
const UNFILLED_FROM_BYTES = 4096;
const PAGE_BYTES = 65_536;
/** To make a view takes as long as some ten copies without one. */
const COPIES_BEFORE_VIEW = 8;
/** The most bytes that a loop copies quicker than `set` does, which takes a view of them. */
const FEW_BYTES = 32;

/** Keeps a memory alive as long as its buffer is: then the buffer need not be detached while someone may look at it. */
const holders = new WeakMap<ArrayBuffer, GuestMemory>();

/** A linear memory: the wrapper that native code knows it by. Arguments come checked. */
export class GuestMemory {
  /** The native number; -1 once the memory is dropped. */
  id: number;
  /** The maximum, in pages, of a memory that belongs to no instance. */
  maximum: number | undefined;
  /** Whether a user may hold a handle to this memory. */
  isHeld = false;
  #isTornDown = false;
  /**
   * The buffer that was given last. Native code refers to it weakly: it and this memory hold one another, and both go when nobody holds either.
   */
  #buffer: ArrayBuffer | undefined;
  /** For copies, see {@link GuestMemory.#viewForCopy}. */
  #view: Uint8Array | undefined;
  #copiesWithoutView = 0;
  /** How many instances have this memory as one of theirs. */
  #instances = 0;

  /** @param make - the native call that makes the memory for this wrapper and gives its number */
  constructor(make: (wrapper: object) => number) {
    this.id = make(this);
    watchCollections();
  }

  /** The size and the maximum, in pages; undefined while a guest on another thread may change the size. */
  limits(): { readonly pages: number; readonly maximum: number | undefined } | undefined {
    try {
      return { pages: native.memoryBytes(this.id) / PAGE_BYTES, maximum: this.maximum };
    } catch (error) {
      if (kindOf(error) === 'busy') return undefined;
      throw translate(error, 'env');
    }
  }

  /** The size in pages. */
  get pages(): number {
    return this.#bytesNow('memorySize') / PAGE_BYTES;
  }

  /** Where the first byte lies in this process, until the memory grows. */
  get address(): bigint {
    try {
      return native.memoryAddress(this.id);
    } catch (error) {
      throw translate(error, 'memory');
    }
  }

  /** The memory itself, without a copy, the same buffer until the memory grows. */
  get buffer(): ArrayBuffer {
    try {
      const buffer = native.memoryBuffer(this.id);
      if (buffer !== this.#buffer) {
        this.#buffer = buffer;
        holders.set(buffer, this);
      }
      return buffer;
    } catch (error) {
      throw translate(error, 'buffer');
    }
  }

  /** Grows the memory by so many pages, and gives the size before. */
  grow(pages: number): number {
    try {
      return native.memoryGrow(this.id, pages);
    } catch (error) {
      throw translate(error, 'pages');
    }
  }

  /** A copy of bytes of the memory. */
  read(address: number, length: number): Uint8Array {
    if (length < UNFILLED_FROM_BYTES) {
      const view = this.#viewForCopy(address + length);
      if (view !== undefined) return view.slice(address, address + length);
      const dest = new Uint8Array(length);
      this.readInto(address, dest);
      return dest;
    }
    // Checked before anything of that size is made; the memory cannot shrink in between.
    const bytesNow = this.#bytesNow('addr');
    if (address + length > bytesNow) {
      const message = `memory read is out of bounds: ${length} bytes at ${address}, size ${bytesNow}`;
      throw new ArgumentError(message, { argument: 'addr' });
    }
    // Not of Buffer's pool, and overwritten to the last byte.
    const dest = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
    this.readInto(address, dest);
    return dest;
  }

  /** Fills an array from the memory. */
  readInto(address: number, dest: Uint8Array): void {
    const length = lengthOf(dest);
    const view = this.#viewForCopy(address + length);
    if (view !== undefined) {
      copyInto(dest, view.subarray(address, address + length));
      return;
    }
    try {
      hot.memoryRead(this.id, address, dest);
    } catch (error) {
      throw translate(error, 'addr');
    }
  }

  /** Copies an array into the memory. */
  write(address: number, source: Uint8Array): void {
    const view = this.#viewForCopy(address + lengthOf(source));
    if (view !== undefined) {
      // `set` copies right if the two overlap.
      view.set(source, address);
      return;
    }
    try {
      hot.memoryWrite(this.id, address, source);
    } catch (error) {
      throw translate(error, 'addr');
    }
  }

  /**
   * Copies `size` bytes at `address` of the memory to `at` in `dest`, which has room for them and is no view of this memory. Returns false,
   * and has copied nothing, if they do not all lie in the memory.
   */
  copyOut(address: number, dest: Uint8Array, at: number, size: number): boolean {
    const view = this.#viewForCopy(address + size);
    if (view === undefined) {
      return isInBounds(() => hot.memoryRead(this.id, address, dest.subarray(at, at + size)));
    }
    copy(view, address, dest, at, size);
    return true;
  }

  /** The other way round. */
  copyIn(address: number, source: Uint8Array, at: number, size: number): boolean {
    const view = this.#viewForCopy(address + size);
    if (view === undefined) {
      return isInBounds(() => hot.memoryWrite(this.id, address, source.subarray(at, at + size)));
    }
    copy(source, at, view, address, size);
    return true;
  }

  /** No index leads here any more: drops the native memory as soon as neither a user nor an instance can reach it. */
  tearDown(): void {
    this.#isTornDown = true;
    this.#dropIfUnreachable();
  }

  /** An instance has this memory. */
  retain(): void {
    this.#instances += 1;
  }

  /** That instance is gone. */
  release(): void {
    this.#instances -= 1;
    this.#dropIfUnreachable();
  }

  #dropIfUnreachable(): void {
    if (!this.#isTornDown || this.isHeld || this.#instances > 0) return;
    hot.dropMemory(this.id);
    this.id = -1;
  }

  /**
   * A view of the memory, by which bytes before `end` are copied quicker than by a native function. Undefined if they do not all
   * lie in the memory, which the native function then says, or if it is not worth to make a view: not before there have been several
   * copies. A view of a memory that has grown or gone has no length any more.
   */
  #viewForCopy(end: number): Uint8Array | undefined {
    const view = this.#view?.length ? this.#view : this.#viewIfWorth();
    return view !== undefined && end <= view.length ? view : undefined;
  }

  #viewIfWorth(): Uint8Array | undefined {
    this.#copiesWithoutView += 1;
    if (this.#copiesWithoutView < COPIES_BEFORE_VIEW) return undefined;
    this.#copiesWithoutView = 0;
    this.#view = this.#newView();
    return this.#view;
  }

  #newView(): Uint8Array | undefined {
    try {
      const buffer = hot.memoryView(this.id);
      return buffer === undefined ? undefined : new Uint8Array(buffer);
    } catch (error) {
      throw translate(error, 'memory');
    }
  }

  #bytesNow(argument: string): number {
    try {
      return native.memoryBytes(this.id);
    } catch (error) {
      throw translate(error, argument);
    }
  }
}

/** Copies bytes that both arrays have, and that do not overlap. */
function copy(from: Uint8Array, source: number, to: Uint8Array, dest: number, size: number): void {
  if (size > FEW_BYTES) to.set(from.subarray(source, source + size), dest);
  else for (let index = 0; index < size; index += 1) to[dest + index] = from[source + index];
}

/** Runs a copy by a native function, and returns whether it was in bounds. */
function isInBounds(copy: () => void): boolean {
  try {
    copy();
    return true;
  } catch (error) {
    if (kindOf(error) === 'out-of-bounds') return false;
    throw translate(error, 'memory');
  }
}
