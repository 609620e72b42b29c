/** Texts of others in messages: no longer than people want them. */

/** The most characters, unless a caller says otherwise. */
const MOST_CHARACTERS = 60;
/** As in the frames of traps, see `MAX_NAME` in `crate/error.rs`. */
const MOST_OF_NAME = 256;

/** A text that is no longer than it may be. */
export function cut(text: string, most: number = MOST_CHARACTERS): string {
  return text.length <= most ? text : `${text.slice(0, most)}…`;
}

/** A name as messages have it: a guest chooses those of its imports and exports, each of up to 100,000 bytes. */
export function shortName(name: string): string {
  return cut(name, MOST_OF_NAME);
}
