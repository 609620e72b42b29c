import type { GuestView } from '../guest/answerer';
import type { HostCallEvent } from '../guest/diagnostics';
import type { ImportSignature } from '../guest/signature';
import { Instantiate } from './instantiate';
import type { Memory } from './memory';
import type { SupervisorFuncIndex } from './supervisor';

/** Gives the handles that a supervisor function may use. */
export interface Handles {
  /** The instance; undefined while its start function runs. */
  instanceNow(): object | undefined;
  /** Its memory 0; undefined if it has none. */
  memoryNow(): Memory | undefined;
}

/** A guest that calls its supervisor. */
export class CallingGuest implements GuestView {
  readonly version: Instantiate;
  readonly functionImports: readonly ImportSignature[];
  /** For each of them the supervisor's index of the function. */
  readonly functions: readonly SupervisorFuncIndex[];
  readonly #handles: Handles;

  constructor(
    version: Instantiate,
    functionImports: readonly ImportSignature[],
    functions: readonly SupervisorFuncIndex[],
    handles: Handles,
  ) {
    this.version = version;
    this.functionImports = functionImports;
    this.functions = functions;
    this.#handles = handles;
  }

  instance(): object | undefined {
    return this.#handles.instanceNow();
  }

  memory(): Memory | undefined {
    return this.#handles.memoryNow();
  }

  /** What {@link SupervisorEvent} declares. */
  describeCall(index: number, isAsync: boolean): HostCallEvent {
    const event = {
      instance: this.instance(),
      importName: this.functionImports[index].name,
      funcIdx: this.functions[index],
      isAsync,
    };
    return event;
  }
}

/** Stands for the guest where a supervisor function is called and none is running. */
export const NO_GUEST = new CallingGuest(Instantiate.Version1, [], [], {
  instanceNow: () => undefined,
  memoryNow: () => undefined,
});
