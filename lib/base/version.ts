/** The version of this package, which its binary must be of too. `package.json` and `Cargo.toml` say it as well; a test compares them. */
export const VERSION = '0.1.0';
