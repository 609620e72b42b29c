/**
 * The situations in which a bench of asynchronous calls runs: threads that hand over to one another depend on whether a core is free
 * for the other one. Each is arranged around the child process that measures.
 */

import { type ForkOptions, spawn, spawnSync } from 'node:child_process';

/** `all cores` is the machine as it is. */
export type Situation = 'all cores' | 'one core' | 'busy';

/** What is written behind the name of a table. */
export const WORDS: Readonly<Record<Situation, string>> = {
  'all cores': 'on all cores',
  'one core': 'on one core',
  busy: 'beside two busy loops',
};

/** Thrown if this machine cannot arrange a situation. The message is a sentence for the reader of the figures. */
export class CannotArrange extends Error {}

/**
 * Arranges a situation for as long as `measure` takes.
 *
 * @param measure - is given the options by which the process that measures is to be forked
 * @throws {@link CannotArrange} before anything is measured
 */
export async function arrange(
  situation: Situation,
  measure: (options: ForkOptions) => Promise<void>,
): Promise<void> {
  switch (situation) {
    case 'all cores':
      return measure({});
    case 'one core':
      return measure(onOneCore());
    case 'busy':
      return besideBusyLoops(() => measure({}));
  }
}

const CORE = ['-c', '0'];

/** taskset replaces itself by the process, so the channel to it stays. */
function onOneCore(): ForkOptions {
  if (spawnSync('taskset', [...CORE, process.execPath, '--version']).status !== 0) {
    throw new CannotArrange(
      'Not measured on one core: this machine has no `taskset`, or does not let it choose core 0.',
    );
  }
  return { execPath: 'taskset', execArgv: [...CORE, process.execPath, ...process.execArgv] };
}

const BUSY_LOOPS = 2;

/** Looks every 20 ms whether its parent is still there, so that it never outlives it. */
const BUSY_LOOP = `
  process.on('disconnect', () => process.exit());
  function spin() {
    const end = performance.now() + 20;
    while (performance.now() < end);
    setImmediate(spin);
  }
  spin();`;

async function besideBusyLoops(measure: () => Promise<void>): Promise<void> {
  const loops = Array.from({ length: BUSY_LOOPS }, () =>
    spawn(process.execPath, ['--eval', BUSY_LOOP], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
  );
  try {
    await measure();
  } finally {
    for (const loop of loops) loop.kill('SIGKILL');
  }
}
