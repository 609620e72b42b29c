// A loader: `--require` it, and the addon behaves as in a runtime that forbids buffers over native memory, such as Electron.
import Module from 'node:module';

type Load = (module: { exports: unknown }, file: string) => void;

interface Addon {
  open(scratch: ArrayBuffer): { refuseBuffersForTests(refuses: number): void };
}

const extensions = (Module as unknown as { _extensions: Record<string, Load> })._extensions;
const load = extensions['.node'] as Load;

extensions['.node'] = (module, file) => {
  load(module, file);
  const addon = module.exports as Addon;
  if (typeof addon.open !== 'function') return;
  module.exports = {
    ...addon,
    open(scratch: ArrayBuffer) {
      const native = addon.open(scratch);
      native.refuseBuffersForTests(1);
      return native;
    },
  };
};
