/** Notices garbage collections, so that native objects go with the wrappers that they belong to. */

import { native } from './native';

/** Whether the next garbage collection will be noticed. */
let isWatching = false;

const registry = new FinalizationRegistry<undefined>(() => {
  queueMicrotask(() => {
    isWatching = false;
    if (native.sweep()) watchCollections();
  });
});

/**
 * Lets the native side drop what belongs to wrappers once they are collected, even if nothing new is made meanwhile. To be called when a
 * wrapper is made.
 *
 * Collections are noticed by an object that nobody holds. Wrappers themselves are not registered: V8 would keep them until its next full
 * collection, while those that live shortly go with a quick one.
 */
export function watchCollections(): void {
  if (isWatching) return;
  isWatching = true;
  registry.register({}, undefined);
}
