// A process that makes guests of extreme modules, one after another, as it is told: the number of a module, to which it answers with what
// became of it. Argument: backend. Run by extremes.spec.ts, which sees it end if such a module can crash a process.
import {
  Instantiate,
  InstantiationError,
  InternalError,
  JsSupervisor,
  LimitError,
  type SandboxBackend,
  SandboxComponents,
  Value,
} from '../../../index';
import { environment } from '../../support/environment';
import { body, i32Const, withFunction } from '../../support/module_bytes';
import { extremeModules, type Fate } from '../extreme_modules';

const backend = process.argv[2] as SandboxBackend;

const GOOD = withFunction(body(i32Const(7)));

function fateOf(wasm: Uint8Array): Fate {
  // Without a cache, so that nothing large is kept.
  const components = new SandboxComponents<undefined>(backend, { cache: false });
  const supervisor = new JsSupervisor();
  const env = environment(components as SandboxComponents<unknown>, {
    'e.f': supervisor.define(() => Value.I32(7)),
  });
  try {
    const index = components
      .instantiate(Instantiate.Version1, wasm, env, supervisor)
      .register(components, undefined);
    return Value.toNumber(components.instance(index).invoke('f', [], supervisor) as Value);
  } catch (error) {
    if (error instanceof InternalError) return 'internal error when called';
    if (error instanceof LimitError) return 'over a limit';
    if (!(error instanceof InstantiationError)) throw error;
    if (error.kind === 'ModuleDecoding') return 'invalid';
    if (error.kind === 'Instantiation') return 'cannot be linked';
    throw error;
  } finally {
    components.clear();
  }
}

process.on('message', (index: number) => {
  const fate = fateOf(extremeModules[index].make());
  process.send?.({ fate, after: fateOf(GOOD) });
});
