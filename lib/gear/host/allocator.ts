/** The supervisor's allocator, as the host functions use it. */

import { describe, fn, object } from '../../base/arguments';
import { SandboxError } from '../../base/errors';

/**
 * Allocates and frees buffers in the supervisor's memory. Usually both are functions that the supervisor
 * exports. In a Gear node they are `ext_allocator_malloc_version_1` and `ext_allocator_free_version_1`
 * of its executor.
 */
export interface SupervisorAllocator {
  /**
   * Allocates a buffer in the supervisor's memory. An exception from it traps the guest, or becomes the
   * `cause` of the host function's error.
   *
   * @param size - the number of bytes, at least 1
   * @returns the address. 0, or an exception, means that there is no room. A negative number is an
   *   address in the upper half of the memory, because that is how WebAssembly passes an i32 to
   *   JavaScript
   */
  allocate(size: number): number;
  /**
   * Frees a buffer. An exception from it traps the guest.
   *
   * @param ptr - an address that `allocate` or the supervisor's dispatch thunk returned, here always as
   *   an unsigned number
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
 * Allocates, and checks the result.
 *
 * @throws SandboxError if the result is not an address
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
