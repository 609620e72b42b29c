// A process that exhausts its stack, or that of a worker, as it is told, and answers with what came of it. Run by stack.spec.ts.
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { type Exhausted, exhaust, type Task } from '../exhaustion';

/** What to do, and where. */
export interface Order {
  readonly task: Task;
  /** In a worker with a stack of so many MiB, or on the main thread. */
  readonly stackSizeMb?: number;
}

/** By the size of their stacks. */
const workers = new Map<number, Worker>();

function inWorker(task: Task, stackSizeMb: number): Promise<Exhausted> {
  const known = workers.get(stackSizeMb);
  const worker = known ?? new Worker(__filename, { resourceLimits: { stackSizeMb } });
  workers.set(stackSizeMb, worker);
  return new Promise((resolve, reject) => {
    worker.removeAllListeners();
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => {
      workers.delete(stackSizeMb);
      reject(new Error(`the worker exited with ${code}`));
    });
    worker.postMessage(task);
  });
}

if (isMainThread) {
  process.on('message', ({ task, stackSizeMb }: Order) => {
    const outcome = stackSizeMb === undefined ? exhaust(task) : inWorker(task, stackSizeMb);
    outcome.then(
      (exhausted) => process.send?.(exhausted),
      (error) => process.send?.({ failed: String(error) }),
    );
  });
  process.on('disconnect', () => process.exit());
} else {
  parentPort?.on('message', (task: Task) => {
    void exhaust(task).then((exhausted) => parentPort?.postMessage(exhausted));
  });
}
