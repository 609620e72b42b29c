/** The events that subscribers of the tracing channels get, see `lib/guest/diagnostics.ts`. */

import type { Value } from '../base/values';
import type { SandboxComponents } from './components';
import type { SandboxInstance } from './instance';
import type { Instantiate } from './instantiate';
import type { SupervisorFuncIndex } from './supervisor';

/**
 * What subscribers of the tracing channel `sandbox-host.instantiate` get. `result` is there at the end if it went well, `error` if not. The
 * order of the events is that of Node's `TracingChannel`.
 *
 * @example
 * ```ts
 * import { subscribe } from 'node:diagnostics_channel';
 *
 * subscribe('tracing:sandbox-host.instantiate:error', (event) => console.error((event as InstantiateEvent).error));
 * ```
 */
export interface InstantiateEvent {
  /** Whose instance it is to be. */
  readonly components: SandboxComponents<unknown>;
  /** The convention of its supervisor calls. */
  readonly version: Instantiate;
  /** Whether it is an `instantiateAsync`. */
  readonly isAsync: boolean;
  /** The instance, which may not have an index yet. */
  result?: SandboxInstance;
  /** What was thrown. */
  error?: unknown;
}

/**
 * What subscribers of the tracing channel `sandbox-host.invoke` get. `result` is there at the end if it went well, `error` if not. The
 * order of the events is that of Node's `TracingChannel`.
 *
 * @example
 * ```ts
 * import { subscribe } from 'node:diagnostics_channel';
 *
 * subscribe('tracing:sandbox-host.invoke:start', (event) => console.log('into', (event as InvokeEvent).exportName));
 * subscribe('tracing:sandbox-host.invoke:end', (event) => console.log('out of', (event as InvokeEvent).exportName));
 * ```
 */
export interface InvokeEvent {
  /** The guest that is called. */
  readonly instance: SandboxInstance;
  /** The name of the function, as the caller gave it. */
  readonly exportName: string;
  /** Its arguments, as the caller gave them: they are not checked yet when the call starts. */
  readonly args: readonly (Value | number | bigint)[];
  /** Whether it is an `invokeAsync`. */
  readonly isAsync: boolean;
  /** What it returned: undefined for nothing, an array for several results. */
  result?: Value | Value[] | undefined;
  /** What was thrown. */
  error?: unknown;
}

/**
 * What subscribers of the tracing channel `sandbox-host.supervisor` get: a guest calls its supervisor. The order of the events is that of
 * Node's `TracingChannel`.
 *
 * @example
 * ```ts
 * import { subscribe } from 'node:diagnostics_channel';
 *
 * subscribe('tracing:sandbox-host.supervisor:start', (event) => console.log((event as SupervisorEvent).importName));
 * ```
 */
export interface SupervisorEvent {
  /** The guest that calls; undefined while its start function runs. */
  readonly instance: SandboxInstance | undefined;
  /** What the guest imports the function as: `module.name`. */
  readonly importName: string;
  /** The supervisor's index of the function. */
  readonly funcIdx: SupervisorFuncIndex;
  /** Whether the call into the guest is asynchronous, so that the supervisor may answer with a Promise. */
  readonly isAsync: boolean;
  /** Whether the call into the guest was ended before the supervisor's Promise was settled. */
  isStopped?: boolean;
  /** What was thrown, if the call failed. */
  error?: unknown;
}
