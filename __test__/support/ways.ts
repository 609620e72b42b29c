// The ways in which a supervisor may answer an asynchronous call, or fail to: tables for tests that go through all of them. Stands alone,
// so that scripts in child processes can use it too.
import { setTimeout as after, setImmediate as nextTurn } from 'node:timers/promises';
import type { Way } from './protocol';

/** Any object with this `then`. */
function thenable(then: PropertyDescriptor): object {
  return Object.defineProperty({}, 'then', then);
}

type Then = (resolve: (value: unknown) => void, reject: (why: unknown) => void) => void;

const thenableBy = (then: Then): object => thenable({ value: then });

/** How to answer. */
export const answers: readonly (readonly [how: string, way: Way])[] = [
  ['by a value', (run) => run()],
  ['by a resolved Promise', (run) => Promise.resolve(run())],
  ['by a Promise of the next turn', (run) => nextTurn().then(run)],
  ['by a late Promise', (run) => after(1).then(run)],
  ['by a thenable that is no Promise', (run) => thenableBy((resolve) => resolve(run()))],
  [
    'by a late thenable',
    (run) => thenableBy((resolve, reject) => void after(1).then(run).then(resolve, reject)),
  ],
  [
    'by a thenable that fails after it has resolved',
    (run) =>
      thenableBy((resolve, reject) => {
        resolve(run());
        reject(new Error('too late'));
        throw new Error('too late');
      }),
  ],
];

/** How to fail with a reason. */
export const failings: readonly (readonly [how: string, failWith: (why: unknown) => Way])[] = [
  [
    'throws',
    (why) => () => {
      throw why;
    },
  ],
  ['rejects', (why) => () => Promise.reject(why)],
  ['rejects late', (why) => () => after(1).then(() => Promise.reject(why))],
  ['gives a thenable that rejects', (why) => () => thenableBy((_, reject) => reject(why))],
  [
    'gives a thenable whose then throws',
    (why) => () =>
      thenableBy(() => {
        throw why;
      }),
  ],
  [
    'gives an object that has no then to be read',
    (why) => () =>
      thenable({
        get: () => {
          throw why;
        },
      }),
  ],
];
