import { object } from './arguments';
import { ArgumentError } from './errors';

/** The given options, each read once. An unknown option that is not undefined is an error. */
export function knownOptions(
  options: unknown,
  name: string,
  known: readonly string[],
): Record<string, unknown> {
  if (options === undefined) return {};
  const given: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(object(options, name))) {
    if (value === undefined) continue;
    if (!known.includes(key)) {
      throw new ArgumentError(`${name}.${key} is no option here; known are: ${known.join(', ') || 'none'}`, {
        argument: `${name}.${key}`,
      });
    }
    given[key] = value;
  }
  return given;
}
