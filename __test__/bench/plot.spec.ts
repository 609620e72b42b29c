// The plots of the benches.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { plot } from '../../bench/support/plot';
import { figure, PEER, SIZES, section, timeTable } from './results';

describe('A plot', () => {
  const { tables } = section('Calls');
  const svg = plot('Calls < "all" & some', tables);

  it('is well-formed XML', () => {
    assertWellFormed(svg);
    assertWellFormed(plot('Files', SIZES));
  });

  it('is the same for the same data, whatever was drawn before', () => {
    plot('Files', SIZES);
    assert.equal(plot('Calls < "all" & some', tables), svg);
  });

  it('is another one for other data', () => {
    assert.notEqual(plot('Calls < "all" & some', [timeTable([figure('wasmi, quick', 76)])]), svg);
  });

  it('has a title, the names of its rows, their values, and a scale with its unit and 1 ×', () => {
    const words = wordsOf(svg);
    assert.match(svg, /<title>Calls &lt; "all" &amp; some<\/title>/);
    for (const word of [
      'Calls < "all" & some',
      'calls',
      PEER,
      '1 × = 50.0 ns',
      'wasmi, quick',
      '1.50 × · 75.0 ns',
      "time, as a multiple of the peer's",
      '1 ×',
    ]) {
      assert.ok(words.includes(word), `${word} is not in ${words.join('; ')}`);
    }
  });

  it('has sizes on a scale of their unit', () => {
    const words = wordsOf(plot('Files', SIZES));
    for (const word of ['size in KiB', '0 KiB', '8.0 KiB']) assert.ok(words.includes(word), word);
  });

  it('reaches from a thousandth to a thousand times the peer if its figures do', () => {
    const words = wordsOf(plot('Far', [timeTable([figure('quick', 0.05), figure('slow', 50_000)])]));
    for (const word of ['0.001 ×', '0.1 ×', '1 ×', '1000 ×']) assert.ok(words.includes(word), word);
  });

  it('shows a target that is met in another colour than one that is missed', () => {
    const met = plot('Calls', [timeTable([figure('wasmi', 75, { target: 2 })])]);
    const missed = plot('Calls', [timeTable([figure('wasmi', 150, { target: 2 })])]);
    const drawn = (picture: string): string => picture.slice(picture.indexOf('</style>'));
    assert.ok(drawn(met).includes('#1a7f37') && !drawn(met).includes('#cf222e'));
    assert.ok(drawn(missed).includes('#cf222e') && !drawn(missed).includes('#1a7f37'));
  });

  it('has another colour on dark pages for each colour that it uses', () => {
    const [, style, drawn] = /<style>([\s\S]*?)<\/style>([\s\S]*)/.exec(svg) as unknown as string[];
    const visible = drawn.replace(/<[^>]* fill-opacity="0"[^>]*>/g, '');
    const used = new Set([...visible.matchAll(/(?:fill|stroke)="#[^"]*"/g)].map(([attribute]) => attribute));
    // What a line, which has no area, would be filled with.
    used.delete('fill="#000"');
    assert.ok(used.size > 5, [...used].join(', '));
    for (const attribute of used) assert.ok(style.includes(`[${attribute}]`), attribute);
  });
});

/** The words that it shows. */
function wordsOf(svg: string): string[] {
  return [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, words]) =>
    words
      .replaceAll('&lt;', '<')
      .replaceAll('&gt;', '>')
      .replaceAll('&quot;', '"')
      .replaceAll('&#39;', "'")
      .replaceAll('&amp;', '&'),
  );
}

/** Every element ends, in the right order; every attribute is in quotes; no text has a bare `<` or `&`. */
function assertWellFormed(svg: string): void {
  const open: string[] = [];
  const tag = /<(?:(\/)([\w:-]+)|([\w:-]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?))>/g;
  let end = 0;
  for (const match of svg.matchAll(tag)) {
    assertText(svg.slice(end, match.index));
    end = match.index + match[0].length;
    const [, closes, closed, opened, attributes = '', alone] = match;
    assertText(attributes);
    if (closes) assert.equal(open.pop(), closed);
    else if (!alone) open.push(opened);
  }
  assert.deepEqual(open, []);
  assert.equal(svg.slice(end).trim(), '');
}

function assertText(text: string): void {
  assert.doesNotMatch(text, /<|&(?!(?:lt|gt|amp|quot|apos|#\d+);)/);
}
