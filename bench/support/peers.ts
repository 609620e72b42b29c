/** The operations that others are compared with. */

import { native } from '../../lib/binding/native';
import type { Operation } from './measure';

/** How many calls a sample has, of operations that take less than a microsecond. */
export const CALLS = 1000;

export const BARE_CALL = 'napi_call_function';

/** Native code calling an empty JavaScript function, without arguments: the least that any way into JavaScript costs. */
export function bareCall(): Operation {
  const empty = (): void => {};
  return { name: BARE_CALL, run: () => native.callForBench(empty, CALLS), times: CALLS };
}
