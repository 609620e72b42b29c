/** Results of benches that nobody has measured. */

import type { Figure } from '../../bench/support/measure';
import type { Machine, Section, TimeTable } from '../../bench/support/results';

export const MACHINE: Machine = {
  date: '2026-01-31',
  cpu: 'AMD EPYC',
  cores: 2,
  system: 'linux x64',
  node: '20.0.0',
  load: 0.1,
};

export const PEER = 'bare & <empty> call';

/** A figure whose ratio to the peer is `median / 50`. */
export function figure(name: string, median: number, more: Partial<Figure> = {}): Figure {
  const ratio = median / 50;
  const ratios =
    name === PEER
      ? []
      : [{ peer: PEER, median: ratio, quartiles: [ratio * 0.9, ratio * 1.1] as [number, number] }];
  return { name, median, min: median * 0.8, ratios, ...more };
}

export function timeTable(figures: readonly Figure[], more: Partial<TimeTable> = {}): TimeTable {
  return {
    name: 'calls',
    situation: 'all cores',
    peers: [PEER],
    figures: [figure(PEER, 50), ...figures],
    ...more,
  };
}

export function section(title: string, more: Partial<Section> = {}): Section {
  return {
    about: { title, text: `What ${title} cost.` },
    machine: MACHINE,
    tables: [
      timeTable([figure('wasmi, quick', 75, { target: 2 }), figure('wasmer, slow', 150, { target: 2 })]),
    ],
    notes: [],
    ...more,
  };
}

export const SIZES: Section['tables'] = [
  {
    name: 'files',
    situation: 'all cores',
    sizes: [
      { name: 'small', bytes: 2048, most: 4096 },
      { name: 'large', bytes: 8192, most: 4096 },
    ],
  },
];
