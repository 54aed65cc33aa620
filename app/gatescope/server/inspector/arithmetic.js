// One unit's state at one time step in a line or two: the equations of its cell with the numbers of the trace.

import { factor, short } from "./number.js";
import { stepAt, valuesAt } from "./step.js";

/** What each cell's equations say of its signals; of a cell that is not here, the values of its signals are told. */
const LINES = {
  lstm: ({ previousName: before, i, f, g, o, c, h, previous, tanh, projected }) => [
    `c = f·c(${before}) + i·g = ${short(f)}·${factor(previous.c)} + ${short(i)}·${factor(g)} = ${short(c)}`,
    projected
      ? `o·tanh(c) = ${short(o)}·${factor(tanh)} = ${short(o * tanh)}, which the projection mixes with the other units`
      : `h = o·tanh(c) = ${short(o)}·${factor(tanh)} = ${short(h)}`,
  ],
  gru: ({ previousName: before, r, z, n, h, previous }) => [
    `h = (1 − z)·n + z·h(${before}) = ${short(1 - z)}·${factor(n)} + ${short(z)}·${factor(previous.h)} = ${short(h)}, with r = ${short(r)}`,
  ],
};

/**
 * @param {import("./trace.js").Trace} trace
 * @param {{sequence: number, layer: number, direction: string, unit: number, time: number}} where
 * @returns {Promise<string[]>} the lines
 */
export async function arithmetic(trace, where) {
  const lines = LINES[trace.cell];
  if (lines) return lines(await stepAt(trace, where));
  const step = await valuesAt(trace, where);
  return [trace.signals.map(({ symbol }) => `${symbol} = ${short(step[symbol])}`).join(", ")];
}
