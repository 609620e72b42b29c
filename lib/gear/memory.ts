/**
 * A guest's linear memory in the supervisor's hands. Mirrors `gear_sandbox_host::sandbox::Memory` and its
 * `MemoryTransfer`.
 */

import { type BufferSource, bytes, uint32 } from '../base/arguments';
import { defineHandle } from '../base/handle';
import { assertInternal, INTERNAL } from '../base/internal';
import { SandboxBackend } from '../guest/backend';
import { GuestMemory } from '../guest/memory';

/** A memory with what a {@link Memory} needs of it. */
export class GearMemory extends GuestMemory {
  readonly backend: SandboxBackend;
  #handle: Memory | undefined;

  constructor(backend: SandboxBackend, make: (wrapper: object) => number) {
    super(make);
    this.backend = backend;
  }

  /** The handle for a user, who may hold it from now on; the same each time. */
  handOut(): Memory {
    this.isHeld = true;
    this.#handle ??= makeMemory(this);
    return this.#handle;
  }

  /** What it is, for people. */
  described(): object {
    const { backend } = this;
    if (this.id === -1) return { backend, isDropped: true };
    const limits = this.limits();
    if (limits === undefined) return { backend, isBusy: true };
    return limits.maximum === undefined ? { backend, pages: limits.pages } : { backend, ...limits };
  }
}

/**
 * What a handle stands for; undefined for what is no handle of a memory.
 *
 * @internal
 */
export let memoryOf: (value: unknown) => GearMemory | undefined;

let makeMemory: (memory: GearMemory) => Memory;

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
  readonly #memory: GearMemory;

  private constructor(key: typeof INTERNAL, memory: GearMemory) {
    super();
    assertInternal(key, 'SandboxComponents.memory or SandboxInstance.getMemory');
    this.backend = memory.backend;
    this.#memory = memory;
  }

  static {
    defineHandle(
      Memory,
      'Memory',
      (value) => #memory in value,
      (memory) => memory.#memory.described(),
    );
    makeMemory = (memory) => new Memory(INTERNAL, memory);
    memoryOf = (value) =>
      typeof value === 'object' && value !== null && #memory in value ? value.#memory : undefined;
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
    return this.#memory.read(uint32(addr, 'addr'), uint32(size, 'size'));
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
    this.#memory.readInto(uint32(addr, 'addr'), bytes(dest, 'dest'));
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
    this.#memory.write(uint32(addr, 'addr'), bytes(src, 'src'));
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
    return this.#memory.grow(uint32(pages, 'pages'));
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
    return this.#memory.pages;
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
    return this.#memory.buffer;
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

  #ifOf(backend: SandboxBackend): Memory | undefined {
    return this.backend === backend ? this : undefined;
  }
}
