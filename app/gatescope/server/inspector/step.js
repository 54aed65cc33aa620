// One unit at one time step, from a stored trace: its signals, and the other numbers of the LSTM's equations.

const BLOCK = 1024; // time steps that are fetched together, so that walking needs no request at most steps

/**
 * @typedef {object} Step
 * @property {number} time
 * @property {number|null} previous the step that this direction read before; null where it began
 * @property {string} previousName "t−1", or "t+1" for the reverse direction
 * @property {number} i @property {number} f @property {number} g @property {number} o
 * @property {number} c
 * @property {number} h o·tanh(c), which with a projection is only this unit's part in the hidden state
 * @property {boolean} projected whether there is one
 * @property {number} previousCell @property {number} previousHidden
 * @property {number} kept f·c of the step before
 * @property {number} written i·g
 * @property {number} tanh of c
 */

/**
 * @param {import("./trace.js").Trace} trace
 * @param {{sequence: number, layer: number, direction: string, unit: number, time: number}} where
 * @returns {Promise<{[symbol: string]: number}>} every signal; NaN where a projection has left this unit none
 */
export function valuesAt(trace, where) {
  return at(trace, where, where.time);
}

/**
 * @param {import("./trace.js").Trace} trace of an LSTM
 * @param {{sequence: number, layer: number, direction: string, unit: number, time: number}} where
 * @returns {Promise<Step>}
 */
export async function stepAt(trace, where) {
  const { time, direction } = where;
  const previous = direction === "reverse" ? time + 1 : time - 1;
  const began = previous < 0 || previous >= trace.length(where.sequence);
  const now = await at(trace, where, time);
  const projected = trace.isProjected;
  const before = began ? initial(trace, where) : await at(trace, where, previous);
  return {
    ...now,
    time,
    previous: began ? null : previous,
    previousName: direction === "reverse" ? "t+1" : "t−1",
    previousCell: before.c,
    h: projected ? now.o * Math.tanh(now.c) : now.h,
    projected,
    previousHidden: projected ? NaN : before.h,
    kept: now.f * before.c,
    written: now.i * now.g,
    tanh: Math.tanh(now.c),
  };
}

/**
 * What a unit did over a span of time, each signal by its symbol.
 * @returns {Promise<{from: number, to: number, [symbol: string]: Float32Array}>} the block that `time` lies in
 */
export async function blockAt(trace, where, time) {
  const from = Math.floor(time / BLOCK) * BLOCK;
  const to = Math.min(from + BLOCK, trace.length(where.sequence));
  const { sequence, layer, direction, unit } = where;
  return { from, to, ...(await trace.unit({ sequence, layer, direction, unit, from, to })) };
}

async function at(trace, where, time) {
  const block = await blockAt(trace, where, time);
  const index = time - block.from;
  return Object.fromEntries(trace.signals.map(({ symbol }) => [symbol, block[symbol]?.[index] ?? NaN]));
}

function initial(trace, { sequence, layer, direction, unit }) {
  const { initialState: state } = trace;
  const { directions } = trace.meta;
  const entry = layer * directions.length + directions.indexOf(direction);
  return { c: state.cell_state[entry][sequence][unit], h: state.hidden_state[entry][sequence][unit] ?? NaN };
}
