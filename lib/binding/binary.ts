/**
 * Finds and loads the native binary of this machine: the one that a clone has built, or the platform package that npm has installed.
 * Says what is missing, and what helps, where there is none. It knows nothing of what the binary does.
 */

import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { VERSION } from '../base/version';

/** The binaries that there are, by `<platform>-<arch>` of Node. Each is in a package `sandbox-host-<its name>`. */
const BINARIES: Readonly<Record<string, readonly string[]>> = {
  'linux-x64': ['linux-x64-gnu', 'linux-x64-musl'],
  'linux-arm64': ['linux-arm64-gnu', 'linux-arm64-musl'],
  'darwin-x64': ['darwin-x64'],
  'darwin-arm64': ['darwin-arm64'],
  'win32-x64': ['win32-x64-msvc'],
  'win32-arm64': ['win32-arm64-msvc'],
};

/** What a machine is, as far as it decides which binary it can load. */
export interface Machine {
  /** `process.platform`. */
  readonly platform: string;
  /** `process.arch`. */
  readonly arch: string;
  /** Where binaries are that a clone has built. */
  readonly builtFolder: string;
  exists(path: string): boolean;
  /** `require`, of a path or a package. */
  load(id: string): unknown;
  /** `require.resolve` of a package. */
  resolve(id: string): string;
  isMusl(): boolean;
}

const THIS_MACHINE: Machine = {
  platform: process.platform,
  arch: process.arch,
  // From `lib/binding/` as from `dist/`.
  builtFolder: join(__dirname, basename(__dirname) === 'binding' ? '../..' : '..', 'native'),
  exists: existsSync,
  load: (id) => require(id),
  resolve: (id) => require.resolve(id),
  isMusl,
};

/**
 * Loads the addon.
 *
 * @throws {Error} with the code `ERR_SANDBOX_BINARY` if there is none for this machine, if its package is missing, if it
 * cannot be loaded, or if it is of another version than this package
 */
export function loadBinary(machine: Machine = THIS_MACHINE): unknown {
  const platform = `${machine.platform}-${machine.arch}`;
  const names = Object.hasOwn(BINARIES, platform) ? BINARIES[platform]! : [];
  if (names.length === 0) {
    const others = Object.keys(BINARIES).join(', ');
    throw binaryError(`there is no binary for ${platform}, only for ${others}. ${BUILD_IT}`);
  }
  const built = names
    .map((name) => join(machine.builtFolder, `sandbox-host.${name}.node`))
    .find((path) => machine.exists(path));
  const id = built ?? installedPackage(names, platform, machine);
  let binary: unknown;
  try {
    binary = machine.load(id);
  } catch (cause) {
    throw binaryError(`${id} cannot be loaded on ${platform}: ${remedy(cause)}`, cause);
  }
  const version = (binary as { version?: () => string }).version?.();
  if (version !== VERSION) {
    const help =
      built === undefined ? 'Install both again, so that they are of one version.' : 'Run `npm run build`.';
    throw binaryError(
      `${id} is of version ${version ?? 'unknown'}, but this package is of ${VERSION}. ${help}`,
    );
  }
  return binary;
}

/** The package that is installed for this machine. Usually one is, because npm knows which one fits. */
function installedPackage(names: readonly string[], platform: string, machine: Machine): string {
  const packages = names.map((name) => `sandbox-host-${name}`);
  const installed = packages.filter((name) => {
    try {
      machine.resolve(name);
      return true;
    } catch {
      return false;
    }
  });
  if (installed.length === 1) return installed[0]!;
  // To ask for the C library takes milliseconds, so it is asked for only where the answer matters.
  const wanted = packages[packages.length > 1 && machine.isMusl() ? 1 : 0]!;
  if (installed.length > 1) return wanted;
  throw binaryError(
    `the package ${wanted}, which has the binary for ${platform}, is not installed. It is an optional dependency: install again without ` +
      '--omit=optional or --no-optional, on the machine that will run it or with its --os, --cpu and --libc. If it is still missing ' +
      `after that, remove node_modules and the lockfile first, as npm may have left it out of a lockfile made on another platform. ${BUILD_IT}`,
  );
}

const BUILD_IT = 'It can be built too: `npm run build` in a clone of the repository, which needs Rust.';

/** What helps against an error that `require` has thrown. */
function remedy(error: unknown): string {
  const { code, message = String(error) } = (error ?? {}) as { code?: unknown; message?: string };
  if (code === 'ERR_DLOPEN_DISABLED') {
    return 'native addons are not allowed in this process. Start Node with --allow-addons, or a worker without --no-addons.';
  }
  if (/--allow-ffi|NotCapable/.test(`${(error as Error)?.name} ${message}`)) {
    return 'native addons are not allowed in this process. Start Deno with --allow-ffi.';
  }
  if (/GLIBC_[\d.]+' not found/.test(message)) {
    return `its C library is too old: ${message}. The binary needs glibc ${GLIBC_FLOOR} or newer.`;
  }
  return message;
}

/** The oldest glibc that published binaries run on. */
const GLIBC_FLOOR = '2.28';

function binaryError(message: string, cause?: unknown): Error {
  const error = new Error(
    `sandbox-host cannot start: ${message}`,
    cause === undefined ? undefined : { cause },
  );
  return Object.assign(error, { code: 'ERR_SANDBOX_BINARY' });
}

/** Whether this process runs on musl, by what Node's report says of glibc. */
function isMusl(): boolean {
  // The types of Node 20 don't know of the property yet.
  const report: (NodeJS.ProcessReport & { excludeNetwork?: boolean }) | undefined = process.report;
  if (report === undefined) return false;
  // Or it would look up the names of all open connections.
  const { excludeNetwork = false } = report;
  report.excludeNetwork = true;
  try {
    const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
    return header?.glibcVersionRuntime === undefined;
  } finally {
    report.excludeNetwork = excludeNetwork;
  }
}
