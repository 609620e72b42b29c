/**
 * The version of this package, which must also be the version of its binary. `package.json` and
 * `Cargo.toml` contain it as well; a test compares them.
 */
export const VERSION = '0.1.0';
