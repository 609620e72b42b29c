/** Tells subscribers of instantiations. */

import { isTraced } from '../guest/diagnostics';
import { type InstantiationEvent, instantiations } from './channels';
import type { GearInstance, SandboxInstance } from './instance';
import type { Instantiate } from './instantiate';

/** Makes an instance by `make`. Subscribers may keep its handle. */
export function traced(components: object, version: Instantiate, make: () => GearInstance): GearInstance {
  if (!isTraced(instantiations)) return make();
  const event: InstantiationEvent = { components, version, isAsync: false };
  let made!: GearInstance;
  instantiations.traceSync(() => {
    made = make();
    return made.handOut();
  }, event);
  return made;
}

/** The same where making it takes time. */
export async function tracedAsync(
  components: object,
  version: Instantiate,
  make: () => Promise<GearInstance>,
): Promise<GearInstance> {
  if (!isTraced(instantiations)) return await make();
  const event: InstantiationEvent = { components, version, isAsync: true };
  let made!: GearInstance;
  const run = async (): Promise<SandboxInstance> => {
    made = await make();
    return made.handOut();
  };
  await instantiations.tracePromise(run, event);
  return made;
}
