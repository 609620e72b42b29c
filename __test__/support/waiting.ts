// Guests that wait in an asynchronous call, for tests of what happens meanwhile.
import type { SandboxBackend, Value } from '../../index';
import { Guest, type GuestCall, type GuestFunction, type GuestOptions } from './guest';

type Result = Awaited<ReturnType<GuestFunction>>;

/** A Promise and what settles it. */
export interface Deferred {
  promise: Promise<Result>;
  resolve(result: Result): void;
  reject(why: unknown): void;
}

export function deferred(): Deferred {
  let resolve: (result: Result) => void = () => {};
  let reject: (why: unknown) => void = () => {};
  const promise = new Promise<Result>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** A guest whose import `env.f` answers when the test says so. */
export function waitingGuest(backend: SandboxBackend, source: string, options: Partial<GuestOptions> = {}) {
  /** The answers, in the order in which the guest has asked. */
  const asked: Deferred[] = [];
  const calls: GuestCall[] = [];
  let onAsked: () => void = () => {};
  const made = new Guest({
    ...options,
    backend,
    wat: source,
    imports: {
      'env.f': (_, call) => {
        const answer = deferred();
        asked.push(answer);
        calls.push(call);
        onAsked();
        return answer.promise;
      },
    },
  });
  const isAsked = async (count: number): Promise<void> => {
    while (asked.length < count) await new Promise<void>((resolve) => (onAsked = resolve));
  };
  const invoke = (
    name: string,
    args: Value[] = [],
    options = {},
  ): ReturnType<typeof made.instance.invokeAsync> =>
    made.instance.invokeAsync(name, args, made.supervisor, options);
  const { components, supervisor, instance, index } = made;
  return { components, supervisor, instance, index, invoke, asked, calls, isAsked };
}
