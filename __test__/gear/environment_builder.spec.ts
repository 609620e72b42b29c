// The builder of environment definitions.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EnvironmentDefinitionBuilder } from '../../lib/gear/environment_builder';
import { decodeEnvironmentDefinition } from '../../lib/gear/scale';
import { refusesArgument } from './scale/expect';
import { toHex } from './scale/hex';

describe('an EnvironmentDefinitionBuilder', () => {
  it('encodes what was added, in that order', () => {
    const bytes = new EnvironmentDefinitionBuilder()
      .addHostFunc('env', 'log', 3)
      .addMemory('env', 'memory', 0)
      .addHostFunc('env', 'log', 4)
      .encode();
    assert.deepEqual(decodeEnvironmentDefinition(bytes), {
      entries: [
        { moduleName: 'env', fieldName: 'log', entity: { kind: 'function', index: 3 } },
        { moduleName: 'env', fieldName: 'memory', entity: { kind: 'memory', index: 0 } },
        { moduleName: 'env', fieldName: 'log', entity: { kind: 'function', index: 4 } },
      ],
    });
  });

  it('encodes nothing as no entries', () => {
    assert.equal(toHex(new EnvironmentDefinitionBuilder().encode()), '00');
  });

  it('can be used further after encoding', () => {
    const builder = new EnvironmentDefinitionBuilder().addMemory('', '', 1);
    const before = builder.encode();
    assert.equal(builder.addMemory('', '', 2), builder);
    assert.equal(toHex(before), '0400000201000000');
    assert.equal(toHex(builder.encode()), '0800000201000000'.concat('00000202000000'));
  });

  it('refuses a wrong argument at once, and stays as it was', () => {
    const builder = new EnvironmentDefinitionBuilder();
    const index = 'must be an integer from 0 to 4294967295, got';
    refusesArgument(
      () => builder.addHostFunc(5 as never, 'f', 0),
      'module',
      'module must be a string, got 5',
    );
    refusesArgument(
      () => builder.addMemory('env', 'a\ud800', 0),
      'field',
      'field must be a string without lone surrogates, got "a\\ud800"',
    );
    refusesArgument(
      () => builder.addHostFunc('env', 'f', -1),
      'supervisorFuncIndex',
      `supervisorFuncIndex ${index} -1`,
    );
    refusesArgument(
      () => builder.addMemory('env', 'm', undefined as never),
      'memoryIndex',
      `memoryIndex ${index} undefined`,
    );
    assert.equal(toHex(builder.encode()), '00');
  });
});
