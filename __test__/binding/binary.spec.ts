// Which binary is loaded on which machine, and what is said where none can be. The real loading is tested by __test__/package.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { VERSION } from '../../lib/base/version';
import { loadBinary, type Machine } from '../../lib/binding/binary';

const root = join(__dirname, '..', '..');
const json = (path: string) => JSON.parse(readFileSync(join(root, path), 'utf8'));

/** A machine that has some binaries in its clone and some packages installed. Each gives its own name. */
function machine({
  built = [],
  installed = [],
  version = VERSION,
  failure,
  ...others
}: Partial<Machine> & {
  built?: readonly string[];
  installed?: readonly string[];
  /** Empty for a binary that does not say. */
  version?: string;
  failure?: Error;
}): Machine {
  const missing = (id: string) =>
    Object.assign(new Error(`Cannot find module '${id}'`), { code: 'MODULE_NOT_FOUND' });
  return {
    platform: 'linux',
    arch: 'x64',
    builtFolder: 'native',
    exists: (path) => built.includes(path.replaceAll('\\', '/')),
    load: (id) => {
      if (failure) throw failure;
      return { id, version: version === '' ? undefined : () => version };
    },
    resolve: (id) => {
      if (!installed.includes(id)) throw missing(id);
      return id;
    },
    isMusl: () => assert.fail('the C library was asked for'),
    ...others,
  };
}

function loaded(on: Machine): string {
  return (loadBinary(on) as { id: string }).id.replaceAll('\\', '/');
}

describe('The loader of the binary', () => {
  const packages = {
    'linux x64 gnu': 'sandbox-host-linux-x64-gnu',
    'linux x64 musl': 'sandbox-host-linux-x64-musl',
    'linux arm64 gnu': 'sandbox-host-linux-arm64-gnu',
    'linux arm64 musl': 'sandbox-host-linux-arm64-musl',
    'darwin x64': 'sandbox-host-darwin-x64',
    'darwin arm64': 'sandbox-host-darwin-arm64',
    'win32 x64': 'sandbox-host-win32-x64-msvc',
    'win32 arm64': 'sandbox-host-win32-arm64-msvc',
  };
  for (const [kind, name] of Object.entries(packages)) {
    const [platform, arch, libc] = kind.split(' ') as [string, string, string?];

    it(`takes the one package that is installed on ${kind}`, () => {
      assert.equal(loaded(machine({ platform, arch, installed: [name] })), name);
    });

    it(`names the package that is missing on ${kind}, and what to do`, () => {
      assert.throws(
        () => loadBinary(machine({ platform, arch, isMusl: () => libc === 'musl' })),
        (error: Error) => {
          assert.equal((error as Error & { code: string }).code, 'ERR_SANDBOX_BINARY');
          assert.match(
            error.message,
            new RegExp(`^sandbox-host cannot start: the package ${name}, which has`),
          );
          assert.match(
            error.message,
            new RegExp(`for ${platform}-${arch}, is not installed.*--omit=optional`),
          );
          return true;
        },
      );
    });
  }

  it('asks for the C library where packages for both are installed', () => {
    const installed = [packages['linux x64 gnu'], packages['linux x64 musl']];
    assert.equal(loaded(machine({ installed, isMusl: () => true })), installed[1]);
    assert.equal(loaded(machine({ installed, isMusl: () => false })), installed[0]);
  });

  it('prefers what the clone has built', () => {
    const built = ['native/sandbox-host.linux-x64-gnu.node'];
    assert.equal(loaded(machine({ built, installed: [packages['linux x64 gnu']] })), built[0]);
  });

  for (const [platform, arch] of [
    ['freebsd', 'x64'],
    ['linux', 'ia32'],
    ['constructor', 'x64'],
  ] as const) {
    it(`says of ${platform}-${arch} that there is no binary, and for which there are some`, () => {
      assert.throws(() => loadBinary(machine({ platform, arch })), {
        code: 'ERR_SANDBOX_BINARY',
        message: new RegExp(
          `no binary for ${platform}-${arch}, only for linux-x64, .*win32-arm64.*can be built`,
        ),
      });
    });
  }

  it('refuses a binary of another version, or of none', () => {
    const installed = [packages['linux x64 gnu']];
    assert.throws(() => loadBinary(machine({ installed, version: '0.0.9' })), {
      code: 'ERR_SANDBOX_BINARY',
      message: new RegExp(
        `sandbox-host-linux-x64-gnu is of version 0\\.0\\.9, but this package is of ${VERSION}`,
      ),
    });
    assert.throws(() => loadBinary(machine({ installed, version: '' })), {
      message: /of version unknown/,
    });
    const built = ['native/sandbox-host.linux-x64-gnu.node'];
    assert.throws(() => loadBinary(machine({ built, version: '0.0.9' })), {
      message: /Run `npm run build`\.$/,
    });
  });

  const failures: Record<string, [Error, RegExp]> = {
    'addons are disabled': [
      Object.assign(new Error('Cannot load native addon because loading addons is disabled.'), {
        code: 'ERR_DLOPEN_DISABLED',
      }),
      /--allow-addons/,
    ],
    'Deno allows no foreign code': [
      Object.assign(new Error('Requires ffi access, run again with the --allow-ffi flag'), {
        name: 'NotCapable',
      }),
      /Start Deno with --allow-ffi/,
    ],
    'glibc is too old': [
      new Error("/lib/libc.so.6: version `GLIBC_2.34' not found (required by a.node)"),
      /C library is too old.*needs glibc 2\.28/,
    ],
    'the file is damaged': [
      new Error('a.node: file too short'),
      /cannot be loaded on linux-x64: a\.node: file too short/,
    ],
  };
  for (const [why, [failure, message]] of Object.entries(failures)) {
    it(`says what helps if ${why}, with the error as the cause`, () => {
      const installed = [packages['linux x64 gnu']];
      assert.throws(() => loadBinary(machine({ installed, failure })), {
        code: 'ERR_SANDBOX_BINARY',
        message,
        cause: failure,
      });
    });
  }

  it('knows each platform that a package is made for, and no other', () => {
    assert.deepEqual(
      Object.values(packages).sort(),
      readdirSync(join(root, 'npm')).map((name) => `sandbox-host-${name}`),
    );
  });
});

describe('The version', () => {
  it('is the same in every manifest', () => {
    assert.equal(json('package.json').version, VERSION);
    assert.match(readFileSync(join(root, 'Cargo.toml'), 'utf8'), new RegExp(`^version = "${VERSION}"$`, 'm'));
    for (const name of readdirSync(join(root, 'npm'))) {
      assert.equal(json(`npm/${name}/package.json`).version, VERSION, name);
    }
  });
});
