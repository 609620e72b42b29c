// Garbage collection when a test wants it.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');

/** Collects what can be collected at this moment. What is on the stack of the caller stays. */
export const collectNow = runInNewContext('gc') as () => void;

/** Collects all that nobody can reach, and has the native side drop what belongs to it. */
export async function collectGarbage(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    collectNow();
    await nextTurn();
  }
}
