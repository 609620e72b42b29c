// Guests in a child process or a worker, for snippets that are about the process and not about how a guest is made.
import { type ChildOptions, type ChildResult, runSnippet } from './child';

/**
 * Source that has `make(backend, fn)`: makes a guest of the base64 binary that the expression gives, whose import `env.f` is `fn`, and
 * gives what calls it, asynchronously.
 */
export function makeGuestFrom(binary: string): string {
  return `
    const { SandboxComponents, GuestEnvironment, EnvironmentDefinitionBuilder, JsSupervisor, Value } = require('../../index');
    const wasm = Buffer.from(${binary}, 'base64');
    function make(backend, fn) {
      const components = new SandboxComponents(backend);
      const supervisor = new JsSupervisor();
      const definition = new EnvironmentDefinitionBuilder().addHostFunc('env', 'f', supervisor.define(fn)).encode();
      const env = GuestEnvironment.decode(components, definition);
      const instance = components.instance(components.instantiate(1, wasm, env, supervisor).register(components, undefined));
      return (name, ...args) => instance.invokeAsync(name, args, supervisor);
    }`;
}

/** Runs a snippet in a child process that has `make` for that binary. */
export function runGuestSnippet(
  source: string,
  binary: Uint8Array,
  options: Omit<ChildOptions, 'args'> = {},
): Promise<ChildResult> {
  const args = [Buffer.from(binary).toString('base64')];
  return runSnippet(makeGuestFrom('process.argv[1]') + source, { timeout: 60_000, ...options, args });
}
