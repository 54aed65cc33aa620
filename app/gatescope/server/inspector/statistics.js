// What the units did over a whole sequence, from the stored trace.

import { isSequential } from "./signals.js";

const MOST_VALUES = 4_000_000; // numbers that are fetched of one signal; of longer ones, means over short spans are
const COVERED = 0.95; // of the units, whose values all lie within the colours of a signal without a range
const known = new WeakMap(); // of each trace: what was computed before

/**
 * One signal of every unit over a whole sequence.
 * @param {import("./trace.js").Trace} trace
 * @param {{sequence: number, layer: number, direction: string, signal: string}} where
 * @returns {Promise<{data: Float32Array, steps: number[], units: number, exact: boolean}>} (span, unit); `exact`: whether each
 *   span is one step
 */
export async function whole(trace, { sequence, layer, direction, signal }) {
  const length = trace.length(sequence);
  const bins = Math.floor(MOST_VALUES / trace.width(signal));
  const tile = await trace.tile({ sequence, layer, direction, signal, bins });
  return { ...tile, exact: tile.steps.length === length };
}

/** @returns {boolean} whether what is computed of a sequence is of every single step */
export function isExact(trace, sequence) {
  return trace.length(sequence) <= Math.floor(MOST_VALUES / trace.meta.units.length);
}

/**
 * How often each unit's gate stood below 0.1 and above 0.9, as shares of the time.
 * @returns {Promise<{left: Float32Array, right: Float32Array, exact: boolean}>}
 */
export function saturation(trace, where) {
  return once(trace, "saturation", where, async () => {
    const { data, units, steps, exact } = await whole(trace, where);
    const [left, right] = [new Float32Array(units), new Float32Array(units)];
    for (let index = 0; index < data.length; index += 1) {
      if (data[index] < 0.1) left[index % units] += 1;
      else if (data[index] > 0.9) right[index % units] += 1;
    }
    return { left: left.map((count) => count / steps.length), right: right.map((count) => count / steps.length), exact };
  });
}

/**
 * How long each unit remembers: −1 / ln f in steps, f the geometric mean of the gate that `where` names, its forget gate.
 * @returns {Promise<Float64Array>}
 */
export function timescale(trace, where) {
  return once(trace, "timescale", where, async () => {
    const { data, units, steps } = await whole(trace, where);
    const logarithms = new Float64Array(units);
    for (let index = 0; index < data.length; index += 1) logarithms[index % units] += Math.log(data[index]);
    return logarithms.map((sum) => -steps.length / sum);
  });
}

/** @returns {Promise<Float64Array>} how much each unit's signal varies */
export function variance(trace, where) {
  return once(trace, "variance", where, async () => {
    const { data, units, steps } = await whole(trace, where);
    const [sums, squares] = [new Float64Array(units), new Float64Array(units)];
    for (let index = 0; index < data.length; index += 1) {
      sums[index % units] += data[index];
      squares[index % units] += data[index] ** 2;
    }
    return squares.map((square, unit) => square / steps.length - (sums[unit] / steps.length) ** 2);
  });
}

/**
 * The values with the first and the last colour of a signal: its range, which is made symmetric where it is not a gate's. Where
 * there is no bound, the largest absolute values that the units had over the whole sequence, but for a few units: one that is far from all
 * others would leave them pale.
 * @param {import("./trace.js").Trace} trace
 * @param {{sequence: number, layer: number, direction: string}} where
 * @param {import("./signals.js").Signal} signal
 * @returns {Promise<{low: number, high: number, clipped: boolean}>} `clipped`: some values lie beyond
 */
export async function limits(trace, where, signal) {
  const { name, low, high } = signal;
  if (low === null || high === null) {
    const found = await sizes(trace, { ...where, signal: name });
    return isSequential(signal) ? { ...found, low } : found;
  }
  if (isSequential(signal)) return { low, high, clipped: false };
  const most = Math.max(-low, high);
  return { low: -most, high: most, clipped: false };
}

function sizes(trace, { sequence, layer, direction, signal }) {
  return once(trace, "sizes", { sequence, layer, direction, signal }, async () => {
    const part = { signal, bins: 1, sequence, layer, direction };
    const [least, most] = await Promise.all(["min", "max"].map((reduce) => trace.tile({ ...part, reduce })));
    const largest = least.data.map((value, unit) => Math.max(Math.abs(value), Math.abs(most.data[unit]))).sort();
    const high = largest[Math.ceil(COVERED * (largest.length - 1))] || 1;
    return { low: -high, high, clipped: largest.at(-1) > high };
  });
}

function once(trace, name, { sequence, layer, direction, signal }, compute) {
  if (!known.has(trace)) known.set(trace, new Map());
  const key = JSON.stringify([name, sequence, layer, direction, signal]);
  const results = known.get(trace);
  if (!results.has(key)) results.set(key, compute());
  return results.get(key);
}
