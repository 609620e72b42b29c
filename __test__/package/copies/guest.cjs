// A guest of a given copy of the package, whose import answers with `answer`.
'use strict';

const { readFileSync } = require('node:fs');
const { join } = require('node:path');

const wasm = readFileSync(join(__dirname, 'guest.wasm'));

module.exports = function guestOf(sh, backend, answer) {
  const components = new sh.SandboxComponents(backend);
  const supervisor = new sh.JsSupervisor();
  const f = supervisor.define(([n]) => {
    const result = answer(n.value);
    return typeof result === 'number' ? sh.Value.I32(result) : result.then((value) => sh.Value.I32(value));
  });
  const definition = new sh.EnvironmentDefinitionBuilder().addHostFunc('env', 'f', f).encode();
  const env = sh.GuestEnvironment.decode(components, definition);
  const made = components.instantiate(1, wasm, env, supervisor);
  const instance = components.instance(made.register(components, undefined));
  return {
    components,
    instance,
    call: (name, args = [], options) => instance.invoke(name, args, supervisor, options)?.value,
    callAsync: (name, args = [], options) =>
      instance.invokeAsync(name, args, supervisor, options).then((result) => result?.value),
  };
};
