/**
 * Draws the tables of a bench as one SVG: a dot for each figure, on a scale whose 1 × is the peer. The same data gives the same bytes.
 *
 * By echarts: it draws SVG in Node without a DOM, and needs two small packages itself.
 */

import * as echarts from 'echarts';
import { type Group, type Layout, layoutOf, type Scale } from './plot_layout';
import type { Table } from './results';

/** By what they are for. Each is a colour on a light page and one on a dark page. */
const COLOURS = {
  page: ['#ffffff', '#0d1117'],
  text: ['#1f2328', '#e6edf3'],
  faint: ['#59636e', '#9198a1'],
  grid: ['#d8dee4', '#30363d'],
  baseline: ['#57606a', '#b1bac4'],
  wasmi: ['#0969da', '#4493f8'],
  wasmer: ['#bc4c00', '#f0883e'],
  other: ['#6e7781', '#8b949e'],
  met: ['#1a7f37', '#3fb950'],
  missed: ['#cf222e', '#ff7b72'],
} as const;

/** As echarts is told them: those of a light page. */
const colour = (name: keyof typeof COLOURS): string => COLOURS[name][0];

const WIDTH = 860;
const ROW_HEIGHT = 22;
const [TOP, BOTTOM] = [84, 56];
const RIGHT = 150;
const MARGIN = 16;
/** About what a character of the labels takes. */
const CHARACTER_WIDTH = 6.7;
const FONT = 'system-ui, sans-serif';

/** The SVG of one bench. */
export function plot(title: string, tables: readonly Table[]): string {
  const layout = layoutOf(tables);
  const height = TOP + layout.rows.length * ROW_HEIGHT + BOTTOM;
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  try {
    chart.setOption(optionOf(title, layout));
    return cleaned(chart.renderToSVGString({ useViewBox: true }), title);
  } finally {
    chart.dispose();
  }
}

function optionOf(title: string, layout: Layout): echarts.EChartsCoreOption {
  const { rows, scale } = layout;
  const longest = Math.max(...rows.map((row) => (row.kind === 'heading' ? 0 : row.name.length)));
  const ticks = { customValues: scale.ticks.map(scale.place) };
  return {
    animation: false,
    backgroundColor: colour('page'),
    textStyle: { fontFamily: FONT },
    title: {
      text: title,
      subtext: explanation(layout),
      left: MARGIN,
      top: 14,
      padding: 0,
      textStyle: { fontSize: 16, color: colour('text'), fontFamily: FONT },
      subtextStyle: { fontSize: 12, color: colour('faint'), fontFamily: FONT },
    },
    legend: {
      show: layout.groups.some((group) => group !== 'other'),
      padding: 0,
      itemGap: 16,
      data: layout.groups.map((name) => ({ name })),
      left: MARGIN,
      top: 56,
      itemWidth: 10,
      itemHeight: 10,
      textStyle: { color: colour('text'), fontFamily: FONT },
    },
    grid: { left: MARGIN + longest * CHARACTER_WIDTH + 16, right: RIGHT, top: TOP, bottom: BOTTOM },
    xAxis: {
      type: 'value',
      min: scale.place(scale.least),
      max: scale.place(scale.most),
      name: scale.name,
      nameLocation: 'middle',
      nameGap: 30,
      nameTextStyle: { color: colour('faint') },
      axisTick: ticks,
      axisLabel: {
        ...ticks,
        color: colour('faint'),
        formatter: (value: number) => scale.label(closest(scale, value)),
      },
      splitLine: { show: true, lineStyle: { color: colour('grid') } },
    },
    yAxis: {
      type: 'category',
      inverse: true,
      data: rows.map((row) => (row.kind === 'heading' ? '' : row.name)),
      axisLine: { show: false },
      axisTick: { show: false },
      axisLabel: { interval: 0, color: colour('text') },
    },
    series: [headings(layout), ...layout.groups.map((group) => dots(layout, group))],
  };
}

/** The tick that a value on the axis stands for: on a logarithmic one it comes back inexactly. */
function closest({ ticks, place }: Scale, value: number): number {
  const distance = (tick: number): number => Math.abs(place(tick) - value);
  return ticks.reduce((best, tick) => (distance(tick) < distance(best) ? tick : best));
}

function explanation({ scale, hasTargets }: Layout): string {
  const target = hasTargets ? '; upright line: the target, green if met and red if missed' : '';
  if (!scale.hasBaseline) return `Dot: the size${target}.`;
  return `Dot: median of the rounds; bar: their middle half${target}. Scale: logarithmic.`;
}

type Shape = echarts.CustomSeriesRenderItemReturn;

/** What stands over the rows of each table, and the line at 1 ×. */
function headings({ rows, scale }: Layout): echarts.CustomSeriesOption {
  const first = scale.hasBaseline ? scale.place(1) : undefined;
  return {
    type: 'custom',
    silent: true,
    data: rows.map((row, index) => [first ?? scale.place(scale.least), index, row.kind]),
    renderItem: ({ dataIndex }, api): Shape => {
      const row = rows[dataIndex];
      const [x, y] = api.coord([api.value(0), dataIndex]);
      const half = ROW_HEIGHT / 2;
      const baseline =
        first === undefined || row.kind === 'heading'
          ? []
          : [line(x, y - half, x, y + half, colour('baseline'), 1.5)];
      const heading = row.kind === 'heading' ? [text(MARGIN, y + 3, row.name, { fontWeight: 'bold' })] : [];
      return { type: 'group', children: [...baseline, ...heading] } as Shape;
    },
  };
}

/** The rows of one engine, or those of neither. */
function dots({ rows, scale }: Layout, group: Group): echarts.CustomSeriesOption {
  const own = rows.flatMap((row, index) =>
    row.kind === 'figure' && row.group === group ? [{ row, index }] : [],
  );
  return {
    type: 'custom',
    name: group,
    silent: true,
    itemStyle: { color: colour(group) },
    data: own.map(({ row, index }) => [scale.place(row.value), index]),
    renderItem: ({ dataIndex }, api): Shape => {
      const { row, index } = own[dataIndex];
      const at = (value: number): number => api.coord([scale.place(value), index])[0];
      const [x, y] = api.coord([scale.place(row.value), index]);
      const [from, to] = row.middleHalf ?? [row.value, row.value];
      const target =
        row.target === undefined
          ? []
          : [line(at(row.target), y - 8, at(row.target), y + 8, colour(row.met ? 'met' : 'missed'), 3)];
      const children = [
        ...target,
        line(at(from), y, at(to), y, colour(group), 4),
        {
          type: 'circle',
          shape: { cx: x, cy: y, r: 4 },
          style: { fill: colour(row.isPeer ? 'page' : group), stroke: colour(group), lineWidth: 1.5 },
        },
        text(WIDTH - MARGIN, y, row.label, { align: 'right' }),
      ];
      return { type: 'group', children } as Shape;
    },
  };
}

function line(x1: number, y1: number, x2: number, y2: number, stroke: string, lineWidth: number): object {
  return { type: 'line', shape: { x1, y1, x2, y2 }, style: { stroke, lineWidth } };
}

function text(x: number, y: number, words: string, more: object): object {
  // With the ground behind it, so that the lines of the scale end beside it.
  const ground = { backgroundColor: colour('page'), padding: [2, 0] };
  const font = { fontSize: 12, fontFamily: FONT, fill: colour('text') };
  return { type: 'text', style: { x, y, text: words, verticalAlign: 'middle', ...ground, ...font, ...more } };
}

/**
 * Takes out what is for pages with scripts, where names are counted through the process, and puts in the title and the colours of dark
 * pages. Programs that know no style sheets show the light ones on their own ground.
 */
function cleaned(svg: string, title: string): string {
  const dark = Object.values(COLOURS).flatMap(([light, other]) => [
    `[fill="${light}"]{fill:${other}}`,
    `[stroke="${light}"]{stroke:${other}}`,
  ]);
  const head = `<title>${escaped(title)}</title>\n<style>@media (prefers-color-scheme:dark){\n${dark.join('\n')}\n}</style>`;
  const plain = svg
    .replace(/<style ?>[\s\S]*?<\/style>\s*/g, '')
    .replace(/ (?:class|pointer-events|ecmeta_\w+)="[^"]*"/g, '')
    .replace(/^(<svg [^>]*)>/, `$1 role="img">\n${head}`);
  return `${plain.trimEnd()}\n`;
}

function escaped(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
