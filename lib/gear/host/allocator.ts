/** The supervisor's allocator, as the host functions use it. */

import { describe, fn, object } from '../../base/arguments';
import { SandboxError } from '../../base/errors';

/**
 * Gives and takes back room in the supervisor's memory. Usually both are functions that the supervisor exports. In a Gear node they are
 * `ext_allocator_malloc_version_1` and `ext_allocator_free_version_1` of its executor.
 */
export interface SupervisorAllocator {
  /**
   * Makes room in the supervisor's memory. What it throws traps the guest, or comes as the `cause` out of the host function.
   *
   * @param size - for how many bytes, at least 1
   * @returns the address; 0, or an exception, says that there is no room. A negative number is an address in the upper half of the
   *   memory, because that is how WebAssembly hands an i32 to JavaScript
   */
  allocate(size: number): number;
  /**
   * Takes room back. What it throws traps the guest.
   *
   * @param ptr - an address that `allocate` or the supervisor's dispatch thunk gave, here always as an unsigned number
   */
  deallocate(ptr: number): void;
}

/**
 * Checks that something is an allocator.
 *
 * @throws ArgumentError naming what is missing
 */
export function checkAllocator(given: unknown, name: string): SupervisorAllocator {
  const { allocate, deallocate } = object(given, name);
  fn(allocate, `${name}.allocate`);
  fn(deallocate, `${name}.deallocate`);
  return given as SupervisorAllocator;
}

/**
 * Allocates, and checks what the allocator gives.
 *
 * @throws SandboxError if that is no address
 */
export function allocate(allocator: SupervisorAllocator, size: number): number {
  const ptr: unknown = allocator.allocate(size);
  if (typeof ptr === 'number' && ptr !== 0 && (ptr >>> 0 === ptr || (ptr | 0) === ptr)) return ptr >>> 0;
  throw new SandboxError(
    ptr === 0
      ? `options.allocator.allocate has no room for ${size} bytes`
      : `options.allocator.allocate must return an address, got ${describe(ptr)}`,
  );
}
