// A loader: `--require` it, and the addon behaves as in a runtime that forbids buffers over native memory, such as Electron.
import Module from 'node:module';
import type { Binding } from '../../lib/binding/addon';

type Load = (module: { exports: unknown }, file: string) => void;

interface Addon {
  Binding: new (scratch: ArrayBuffer) => Binding;
}

const extensions = (Module as unknown as { _extensions: Record<string, Load> })._extensions;
const load = extensions['.node'] as Load;

extensions['.node'] = (module, file) => {
  load(module, file);
  const addon = module.exports as Addon;
  if (typeof addon.Binding !== 'function') return;
  module.exports = {
    ...addon,
    Binding: class extends addon.Binding {
      constructor(scratch: ArrayBuffer) {
        super(scratch);
        this.refuseBuffersForTests(true);
      }
    },
  };
};
