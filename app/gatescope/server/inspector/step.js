// One unit at one time step, from a stored trace: its signals, and the states that it began the step with.

const BLOCK = 1024; // time steps that are fetched together, so that walking needs no request at most steps

/**
 * @typedef {object} Step every signal by its symbol, and beside that:
 * @property {number} time
 * @property {string} previousName "t−1", or "t+1" for the reverse direction
 * @property {{[symbol: string]: number}} previous the states before, by symbol; NaN where a projection has left this unit none
 * @property {boolean} projected whether the hidden state is one
 *
 * Of an LSTM also:
 * @property {number} [h] o·tanh(c), which with a projection is only this unit's part in the hidden state
 * @property {number} [previousCell] @property {number} [previousHidden] as the figure shows them
 * @property {number} [kept] f·c of the step before
 * @property {number} [written] i·g
 * @property {number} [tanh] of c
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
 * @param {import("./trace.js").Trace} trace
 * @param {{sequence: number, layer: number, direction: string, unit: number, time: number}} where
 * @returns {Promise<Step>}
 */
export async function stepAt(trace, where) {
  const { time, direction } = where;
  const before = direction === "reverse" ? time + 1 : time - 1;
  const began = before < 0 || before >= trace.length(where.sequence);
  const now = await at(trace, where, time);
  const previous = began ? initial(trace, where) : await at(trace, where, before);
  const projected = trace.isProjected;
  const step = { ...now, time, previousName: direction === "reverse" ? "t+1" : "t−1", previous, projected };
  return trace.cell === "lstm" ? { ...step, ...products(step) } : step;
}

/** What stands in the figure of an LSTM beside its signals. */
function products({ i, f, g, o, c, h, previous, projected }) {
  const tanh = Math.tanh(c);
  const before = { previousCell: previous.c, previousHidden: projected ? NaN : previous.h };
  return { ...before, h: projected ? o * tanh : h, kept: f * previous.c, written: i * g, tanh };
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

/** The states that this unit began the sequence with, by symbol. */
function initial(trace, { sequence, layer, direction, unit }) {
  const { directions } = trace.meta;
  const entry = layer * directions.length + directions.indexOf(direction);
  const states = trace.signals.filter((signal) => trace.isState(signal));
  return Object.fromEntries(states.map(({ name, symbol }) => [symbol, trace.initialState[name][entry][sequence][unit] ?? NaN]));
}
