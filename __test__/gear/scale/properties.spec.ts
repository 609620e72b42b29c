// What must hold for every value, and for bytes that were damaged on their way.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CodecError } from '../../../lib/base/errors';
import { codecs } from './arbitraries';
import { toHex } from './hex';

for (const { name, encode, decode, arbitrary } of codecs) {
  describe(name, () => {
    /**
     * Damaged bytes must be refused, or be the encoding of what they are decoded to, so that no value is made
     * up.
     */
    function refusesOrReadsWhatIsThere(bytes: Uint8Array): void {
      let decoded: unknown;
      try {
        decoded = decode(bytes);
      } catch (error) {
        assert.ok(error instanceof CodecError, String(error));
        assert.ok(error.offset >= 0 && error.offset <= bytes.length);
        assert.ok(error.message.endsWith(` at byte ${error.offset}`), error.message);
        return;
      }
      const encoded = encode(decoded);
      assert.equal(toHex(encoded), toHex(bytes.subarray(0, encoded.length)));
    }

    it('survives a round trip', () => {
      fc.assert(
        fc.property(arbitrary, (value) => assert.deepEqual(decode(encode(value)), value)),
        { numRuns: 500 },
      );
    });

    it('is encoded into bytes of its own', () => {
      fc.assert(
        fc.property(arbitrary, (value) => {
          const bytes = encode(value);
          assert.equal(Object.getPrototypeOf(bytes), Uint8Array.prototype);
          assert.equal(bytes.buffer.byteLength, bytes.length);
        }),
      );
    });

    it('is decoded the same with anything behind it', () => {
      fc.assert(
        fc.property(arbitrary, fc.uint8Array(), (value, behind) => {
          assert.deepEqual(decode(Buffer.concat([encode(value), behind])), value);
        }),
      );
    });

    it('is decoded the same from the middle of a larger buffer, and from shared memory', () => {
      fc.assert(
        fc.property(arbitrary, fc.nat(9), (value, offset) => {
          const bytes = encode(value);
          for (const buffer of [
            new ArrayBuffer(bytes.length + 20),
            new SharedArrayBuffer(bytes.length + 20),
          ]) {
            const view = new Uint8Array(buffer, offset, bytes.length);
            view.set(bytes);
            assert.deepEqual(decode(view), value);
          }
        }),
      );
    });

    it('is refused when it is cut off at any byte', () => {
      fc.assert(
        fc.property(arbitrary, (value) => {
          const bytes = encode(value);
          for (let length = 0; length < bytes.length; length += 1) {
            assert.throws(
              () => decode(bytes.subarray(0, length)),
              CodecError,
              `${length} of ${toHex(bytes)}`,
            );
          }
        }),
        { numRuns: 50 },
      );
    });

    it('is refused or read as it is when any bit is flipped', () => {
      fc.assert(
        fc.property(arbitrary, (value) => {
          const bytes = encode(value);
          for (let bit = 0; bit < bytes.length * 8; bit += 1) {
            const flipped = bytes.slice();
            flipped[bit >> 3] ^= 1 << (bit & 7);
            refusesOrReadsWhatIsThere(flipped);
          }
        }),
        { numRuns: 15 },
      );
    });

    it('is refused or read as it is when bytes are changed at random', () => {
      const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
      fc.assert(
        fc.property(arbitrary, changes, (value, changed) => {
          const bytes = encode(value);
          for (const [place, byte] of changed) bytes[place % bytes.length] = byte;
          refusesOrReadsWhatIsThere(bytes);
        }),
        { numRuns: 1000 },
      );
    });

    it('is refused or read as it is in any bytes', () => {
      // Small numbers are what most choices hang on, and short forms of lengths.
      const byte = fc.oneof(fc.nat(8), fc.nat(255));
      fc.assert(
        fc.property(fc.array(byte, { maxLength: 40 }), (bytes) =>
          refusesOrReadsWhatIsThere(Uint8Array.from(bytes)),
        ),
        { numRuns: 2000 },
      );
    });
  });
}
