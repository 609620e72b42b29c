/**
 * A guest's linear memory in the supervisor's hands. Mirrors `gear_sandbox_host::sandbox::Memory` and its
 * `MemoryTransfer`.
 */

import { argumentError, type BufferSource, bytes, copyInto, lengthOf, uint32 } from '../base/arguments';
import { ArgumentError } from '../base/errors';
import { defineHandle } from '../base/handle';
import { MADE_HERE, refuseUsers } from '../base/internal';
import { kindOf, native, translate, watchCollections } from '../binding/native';
import { SandboxBackend } from '../guest/backend';

/** How a memory's number comes about: a native call that is given the wrapper. */
type Make = (wrapper: object) => number;

/** Opens a {@link Memory} to the other files of this folder. */
export interface MemoryInternals {
  make(backend: SandboxBackend, make: Make): Memory;
  /** Takes note of the maximum, in pages, of a memory that belongs to no instance; undefined for none. */
  setMaximum(memory: Memory, maximum: number | undefined): void;
  /** Its size and that maximum, in pages; undefined while a guest on another thread may change the size. */
  limits(memory: Memory): { readonly pages: number; readonly maximum: number | undefined } | undefined;
  /** The native number; throws an `ArgumentError` for what is no memory. */
  id(memory: unknown, name: string): number;
  /**
   * Copies `size` bytes at `address` of the memory to `at` in `dest`, which is no view of this memory. Gives false, and has copied
   * nothing, if they do not all lie in the memory. Both have room for them in `dest`.
   */
  copyOut(memory: Memory, address: number, dest: Uint8Array, at: number, size: number): boolean;
  /** The other way round. */
  copyIn(memory: Memory, address: number, src: Uint8Array, at: number, size: number): boolean;
  /** Where the first byte lies in this process, until the memory grows. */
  address(memory: Memory): bigint;
  /** No index leads here any more: drops the native memory as soon as nobody can reach this wrapper. */
  tearDown(memory: Memory): void;
  /** An instance leads here: its memory 0 is this one. */
  retain(memory: Memory): void;
  /** That instance is gone. */
  release(memory: Memory): void;
  /** From now on a user may hold this wrapper. */
  handOut(memory: Memory): Memory;
}

/** @internal */
export let memoryInternals: MemoryInternals;

/** Reads of more bytes than this skip filling the result with zeros first, which costs as much as the copy. */
const UNFILLED_FROM_BYTES = 4096;

/**
 * A linear memory. Get one by {@link SandboxComponents.memory} or {@link SandboxInstance.getMemory}; it stays usable after
 * its teardown for as long as you hold it. Mirrors `gear_sandbox_host::sandbox::Memory` and the trait
 * `gear_sandbox_host::util::MemoryTransfer` (crate `gear-sandbox-host` 1.10.0).
 *
 * @example
 * ```ts
 * const memory = components.memory(components.newMemory(1, 16));
 * memory.writeFrom(8, new TextEncoder().encode('hello'));
 * new Uint8Array(memory.buffer)[8]; // 104
 * memory.memoryGrow(1); // 1; `buffer` is detached, and the property gives a new one
 * ```
 */
export class Memory extends Object {
  /** Which engine the memory belongs to. */
  readonly backend: SandboxBackend;
  #id = -1;
  /** Whether a user may hold this wrapper. */
  #isHeld = false;
  #isTornDown = false;
  #maximum: number | undefined;
  /**
   * The buffer that was given last. Native code refers to it weakly: it and this memory hold one another, and both go when nobody holds either.
   */
  #buffer: ArrayBuffer | undefined;
  /** For copies, see {@link Memory.#viewForCopy}. */
  #view: Uint8Array | undefined;
  #copiesWithoutView = 0;
  /** How many instances lead here. */
  #instances = 0;

  private constructor(key: typeof MADE_HERE, backend: SandboxBackend) {
    super();
    refuseUsers(key, 'SandboxComponents.memory or SandboxInstance.getMemory');
    this.backend = backend;
  }

  static {
    defineHandle(
      Memory,
      'Memory',
      (value) => #id in value,
      (memory) => memory.#described(),
    );
    memoryInternals = {
      make(backend, make) {
        const memory = new Memory(MADE_HERE, backend);
        memory.#id = make(memory);
        watchCollections();
        return memory;
      },
      setMaximum(memory, maximum) {
        memory.#maximum = maximum;
      },
      limits(memory) {
        try {
          return { pages: native.memoryBytes(memory.#id) / PAGE_BYTES, maximum: memory.#maximum };
        } catch (error) {
          if (kindOf(error) === 'busy') return undefined;
          throw translate(error, 'env');
        }
      },
      id(memory, name) {
        if (typeof memory !== 'object' || memory === null || !(#id in memory)) {
          throw argumentError(name, 'a Memory', memory);
        }
        return (memory as Memory).#id;
      },
      copyOut(memory, address, dest, at, size) {
        const view = memory.#viewForCopy(address + size);
        if (view === undefined) {
          return isInBounds(() => native.memoryRead(memory.#id, address, dest.subarray(at, at + size)));
        }
        copy(view, address, dest, at, size);
        return true;
      },
      copyIn(memory, address, src, at, size) {
        const view = memory.#viewForCopy(address + size);
        if (view === undefined) {
          return isInBounds(() => native.memoryWrite(memory.#id, address, src.subarray(at, at + size)));
        }
        copy(src, at, view, address, size);
        return true;
      },
      address(memory) {
        try {
          return native.memoryAddress(memory.#id);
        } catch (error) {
          throw translate(error, 'memory');
        }
      },
      tearDown(memory) {
        memory.#isTornDown = true;
        memory.#dropIfUnreachable();
      },
      retain(memory) {
        memory.#instances += 1;
      },
      release(memory) {
        memory.#instances -= 1;
        memory.#dropIfUnreachable();
      },
      handOut(memory) {
        memory.#isHeld = true;
        return memory;
      },
    };
  }

  /**
   * Copies bytes out of the memory. Mirrors `MemoryTransfer::read`.
   *
   * @param addr - where they begin, in bytes
   * @param size - how many bytes
   * @returns a copy of them, with a buffer of its own
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if they do not all lie in the memory, or a number is no integer from 0 to 2^32 -
   *   1
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while a guest that shares it is running asynchronously
   * @example
   * ```ts
   * new TextDecoder().decode(memory.read(8, 5)); // 'hello'
   * ```
   */
  read(addr: number, size: number): Uint8Array {
    const address = uint32(addr, 'addr');
    const length = uint32(size, 'size');
    if (length < UNFILLED_FROM_BYTES) {
      const view = this.#viewForCopy(address + length);
      if (view !== undefined) return view.slice(address, address + length);
      const dest = new Uint8Array(length);
      this.#readInto(address, dest);
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
    this.#readInto(address, dest);
    return dest;
  }

  /**
   * Fills `dest` from the memory. Mirrors `MemoryTransfer::read_into`.
   *
   * @param addr - where to begin in the memory, in bytes
   * @param dest - any buffer or view; a view of this very memory is allowed
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if the bytes do not all lie in the memory, `addr` is no integer from 0 to 2^32 -
   *   1, or `dest` is no buffer or view, or is detached
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while a guest that shares it is running asynchronously
   * @example
   * ```ts
   * const header = new Uint8Array(16);
   * memory.readInto(1024, header); // the bytes from 1024 to 1039
   * ```
   */
  readInto(addr: number, dest: BufferSource): void {
    this.#readInto(uint32(addr, 'addr'), bytes(dest, 'dest'));
  }

  /**
   * Copies `src` into the memory. Mirrors `MemoryTransfer::write_from`.
   *
   * @param addr - where to begin in the memory, in bytes
   * @param src - any buffer or view; a view of this very memory is allowed
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if the bytes do not all fit, `addr` is no integer from 0 to 2^32 - 1, or `src`
   *   is no buffer or view, or is detached
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while a guest that shares it is running asynchronously
   * @example
   * ```ts
   * memory.writeFrom(8, new TextEncoder().encode('hello'));
   * ```
   */
  writeFrom(addr: number, src: BufferSource): void {
    const address = uint32(addr, 'addr');
    const source = bytes(src, 'src');
    const view = this.#viewForCopy(address + lengthOf(source));
    if (view !== undefined) {
      // `set` minds an overlap.
      view.set(source, address);
      return;
    }
    try {
      native.memoryWrite(this.#id, address, source);
    } catch (error) {
      throw translate(error, 'addr');
    }
  }

  /**
   * Grows the memory. Views of it are detached, also by 0 pages if the engine moves it. Mirrors
   * `MemoryTransfer::memory_grow`.
   *
   * @param pages - by how many pages of 64 KiB
   * @returns the size before, in pages of 64 KiB
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) if the memory cannot grow that much, or would have to move while somebody has taken
   *   the bytes of its `buffer` away; it stays as it is then
   * @throws an {@link ArgumentError} (`ERR_SANDBOX_ARGUMENT`) if `pages` is no integer from 0 to 2^32 - 1
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while a guest that shares it is running asynchronously
   * @example
   * ```ts
   * const before = memory.memoryGrow(2); // 128 KiB more
   * memory.memorySize() === before + 2; // true
   * ```
   */
  memoryGrow(pages: number): number {
    const delta = uint32(pages, 'pages');
    try {
      return native.memoryGrow(this.#id, delta);
    } catch (error) {
      throw translate(error, 'pages');
    }
  }

  /**
   * The size. Mirrors `MemoryTransfer::memory_size`.
   *
   * @returns how many pages of 64 KiB it has
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while a guest that shares it is running asynchronously
   * @example
   * ```ts
   * const bytes = memory.memorySize() * 65_536;
   * ```
   */
  memorySize(): number {
    return this.#bytesNow('memorySize') / PAGE_BYTES;
  }

  /**
   * The memory itself, without a copy: what is written here the guest sees at once, and the other way round. The same
   * buffer each time until the memory grows; then it is detached (`byteLength` 0), and this property gives a new one. While
   * you hold the buffer, hold the `Memory` too: the buffer is also detached when its last handle is gone.
   *
   * Give copies to byte streams and to whatever else transfers buffers: whoever takes its bytes over has the guest's memory, and
   * a memory that would have to move cannot grow until they are gone. This property gives a new buffer then.
   *
   * Mirrors `MemoryTransfer::get_buff`, and behaves as `WebAssembly.Memory.prototype.buffer` (WebAssembly JavaScript Interface,
   * "Memories").
   *
   * @throws a {@link LimitError} (`ERR_SANDBOX_LIMIT`) where the runtime forbids buffers over native memory, as Electron does: use
   *   {@link Memory.read} and {@link Memory.writeFrom} there, which copy. A copy in place of the buffer would lose what is written to it
   * @throws a {@link BusyError} (`ERR_SANDBOX_BUSY`) while a guest that shares it is running asynchronously
   * @example
   * ```ts
   * const view = new DataView(memory.buffer);
   * view.setUint32(16, 42, true); // the guest sees it at once
   * ```
   */
  get buffer(): ArrayBuffer {
    try {
      const buffer = native.memoryBuffer(this.#id);
      if (buffer !== this.#buffer) {
        this.#buffer = buffer;
        holders.set(buffer, this);
      }
      return buffer;
    } catch (error) {
      throw translate(error, 'buffer');
    }
  }

  /**
   * This memory if it belongs to wasmi. Mirrors `Memory::as_wasmi`.
   *
   * @returns the memory, or undefined if it belongs to wasmer
   * @example
   * ```ts
   * const isInterpreted = memory.asWasmi() !== undefined;
   * ```
   */
  asWasmi(): Memory | undefined {
    return this.#ifOf(SandboxBackend.Wasmi);
  }

  /**
   * This memory if it belongs to wasmer. Mirrors `Memory::as_wasmer`.
   *
   * @returns the memory, or undefined if it belongs to wasmi
   * @example
   * ```ts
   * const isCompiled = memory.asWasmer() !== undefined;
   * ```
   */
  asWasmer(): Memory | undefined {
    return this.#ifOf(SandboxBackend.Wasmer);
  }

  #described(): object {
    const { backend } = this;
    if (this.#id === -1) return { backend, isDropped: true };
    const limits = memoryInternals.limits(this);
    if (limits === undefined) return { backend, isBusy: true };
    return limits.maximum === undefined ? { backend, pages: limits.pages } : { backend, ...limits };
  }

  #ifOf(backend: SandboxBackend): Memory | undefined {
    return this.backend === backend ? this : undefined;
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
      const buffer = native.memoryView(this.#id);
      return buffer === undefined ? undefined : new Uint8Array(buffer);
    } catch (error) {
      throw translate(error, 'memory');
    }
  }

  #bytesNow(argument: string): number {
    try {
      return native.memoryBytes(this.#id);
    } catch (error) {
      throw translate(error, argument);
    }
  }

  #dropIfUnreachable(): void {
    if (!this.#isTornDown || this.#isHeld || this.#instances > 0) return;
    native.dropMemory(this.#id);
    this.#id = -1;
  }

  #readInto(address: number, dest: Uint8Array): void {
    const length = lengthOf(dest);
    const view = this.#viewForCopy(address + length);
    if (view !== undefined) {
      copyInto(dest, view.subarray(address, address + length));
      return;
    }
    try {
      native.memoryRead(this.#id, address, dest);
    } catch (error) {
      throw translate(error, 'addr');
    }
  }
}

/** Keeps a memory alive as long as its buffer is: then the buffer need not be detached while someone may look at it. */
const holders = new WeakMap<ArrayBuffer, Memory>();

const PAGE_BYTES = 65_536;
/** To make a view takes as long as some ten copies without one. */
const COPIES_BEFORE_VIEW = 8;

/** The most bytes that a loop copies quicker than `set` does, which takes a view of them. */
const FEW_BYTES = 32;

/** Copies bytes that both arrays have, and that do not overlap. */
function copy(from: Uint8Array, source: number, to: Uint8Array, dest: number, size: number): void {
  if (size > FEW_BYTES) to.set(from.subarray(source, source + size), dest);
  else for (let index = 0; index < size; index += 1) to[dest + index] = from[source + index];
}

/** Runs a copy by a native function, and tells whether it was in bounds. */
function isInBounds(copy: () => void): boolean {
  try {
    copy();
    return true;
  } catch (error) {
    if (kindOf(error) === 'out-of-bounds') return false;
    throw translate(error, 'memory');
  }
}
