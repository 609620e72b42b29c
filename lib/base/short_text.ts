/** Shortens texts from outside this package for messages. */

/** The most characters, unless the caller passes another limit. */
const MOST_CHARACTERS = 60;
/** The most characters of a name, as in the frames of traps, see `MAX_NAME` in `crate/error.rs`. */
const MOST_OF_NAME = 256;

/** Shortens a text to the maximum length. */
export function cut(text: string, most: number = MOST_CHARACTERS): string {
  return text.length <= most ? text : `${text.slice(0, most)}…`;
}

/**
 * A name for messages, shortened: a guest chooses the names of its imports and exports, each of up to
 * 100,000 bytes.
 */
export function shortName(name: string): string {
  return cut(name, MOST_OF_NAME);
}
