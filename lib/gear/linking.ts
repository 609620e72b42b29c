/** Resolves what a module imports, in an environment. */

import type { MissingImport } from '../base/errors';
import type { GuestModule, ImportDescription } from '../guest/module';
import type { Environment } from './environment';
import type { GearMemory } from './memory';
import { A_FUNCTION, A_MEMORY, describeMemory, missing, missingImports } from './missing_imports';
import type { SupervisorFuncIndex } from './supervisor';

/** What the imports of a module resolve to. */
export interface Linked {
  /** For each imported function the supervisor's index of it. */
  readonly functions: readonly SupervisorFuncIndex[];
  /** The imported memories, in order. */
  readonly importedMemories: readonly GearMemory[];
  /** The native numbers of those memories. */
  readonly memoryIds: readonly number[];
  /** For native code: 32 bits for each import of the module, the number of the memory if it is one. */
  readonly memories: Uint8Array;
}

/**
 * Resolves the imports of a module.
 *
 * @throws an `InstantiationError` that names all imports which the environment does not satisfy
 */
export function link({ imports }: GuestModule, env: Environment): Linked {
  const functions: SupervisorFuncIndex[] = [];
  const importedMemories: GearMemory[] = [];
  const lacking: MissingImport[] = [];
  const numbers = new Uint32Array(imports.length);
  imports.forEach((wanted, place) => {
    const memory = env.memoryNamed(wanted.module, wanted.name);
    const index = env.functionNamed(wanted.module, wanted.name);
    if (wanted.kind === 'memory' && memory !== undefined) {
      const given = unlike(wanted, memory);
      if (given !== undefined) lacking.push(missing(wanted, given));
      importedMemories.push(memory);
      numbers[place] = memory.id;
    } else if (wanted.kind === 'function' && index !== undefined) {
      functions.push(index);
    } else {
      const given = memory !== undefined ? A_MEMORY : index !== undefined ? A_FUNCTION : undefined;
      lacking.push(missing(wanted, given));
    }
  });
  if (lacking.length > 0) throw missingImports(lacking);
  return {
    functions,
    importedMemories,
    memoryIds: importedMemories.map(({ id }) => id),
    memories: new Uint8Array(numbers.buffer),
  };
}

/** What a memory is, if it does not match the type of an import (WebAssembly specification, "Import Matching"). */
function unlike({ type }: ImportDescription, memory: GearMemory): string | undefined {
  const limits = memory.limits();
  // Then native code finds out, once it is its turn.
  if (limits === undefined) return undefined;
  const { pages, maximum } = limits;
  const { minimum, maximum: most } = type as { minimum: number; maximum?: number };
  const fits = pages >= minimum && (most === undefined || (maximum !== undefined && maximum <= most));
  return fits ? undefined : describeMemory(pages, maximum);
}
