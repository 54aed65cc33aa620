// Orders of the units, so that those which did alike stand together.

import { title } from "./signals.js";
import { isExact, saturation, timescale, variance } from "./statistics.js";

const ROUNDS = 60; // of the power iteration; an order needs no digits
const SPANS = 400; // of time, in which units are compared

const CARRYING = ["forget_gate", "update_gate"]; // gates that say how much of a state remains; not every cell has one

/** The orders that there are: their names, and what each goes by. */
const SORTS = {
  unit: { name: "number", basis: () => "" },
  saturation: { name: "saturation", needsGate: true, basis: (trace) => `how often the ${title(carrying(trace))} is open rather than shut` },
  timescale: { name: "timescale", needsGate: true, basis: (trace) => `how long the unit remembers, by its ${title(carrying(trace))}` },
  variance: { name: "variance", basis: ({ memory }) => `how much the ${title(memory)} varies` },
  similarity: { name: "similarity", basis: ({ memory }) => `how alike the ${title(memory)}s run` },
};

/** @returns {Object<string, string>} the orders of this trace's cell, by the name in the state */
export function sortsOf(trace) {
  const known = Object.entries(SORTS).filter(([sort]) => isKnown(trace, sort));
  return Object.fromEntries(known.map(([sort, { name }]) => [sort, name]));
}

/**
 * @param {import("./trace.js").Trace} trace
 * @param {{sequence: number, layer: number, direction: string, sort: string}} where
 * @returns {Promise<number[]>} the units in this order
 */
export async function ordered(trace, where) {
  const sort = isKnown(trace, where.sort) ? where.sort : "unit";
  const memory = trace.memory.name;
  if (sort === "saturation") {
    const { left, right } = await saturation(trace, { ...where, signal: carrying(trace).name });
    return descending(right.map((share, unit) => share - left[unit]));
  }
  if (sort === "timescale") return descending(await timescale(trace, { ...where, signal: carrying(trace).name }));
  if (sort === "variance") return descending(await variance(trace, { ...where, signal: memory }));
  if (sort === "similarity") return similar(await trace.tile({ ...part(where), signal: memory, bins: SPANS }));
  return Array.from({ length: trace.meta.units.length }, (_, unit) => unit);
}

/** @returns {string} what the units are sorted by, and whether over every step or over means; nothing for their numbers */
export function basis(trace, { sort, sequence }) {
  if (sort === "unit" || !isKnown(trace, sort)) return "";
  const exact = sort === "similarity" ? trace.length(sequence) <= SPANS : isExact(trace, sequence);
  return `Sorted by ${SORTS[sort].basis(trace)}${exact ? "" : ", over means of short spans: the sequence is long"}`;
}

function isKnown(trace, sort) {
  return sort in SORTS && (!SORTS[sort].needsGate || carrying(trace) !== undefined);
}

function carrying({ signals }) {
  return signals.find(({ name }) => CARRYING.includes(name));
}

function part({ sequence, layer, direction }) {
  return { sequence, layer, direction };
}

function descending(values) {
  return Array.from(values.keys()).sort((one, other) => values[other] - values[one]);
}

/**
 * Units by their angle in the plane of the two largest principal components of their courses (Friendly 2002,
 * "Corrgrams"): neighbours are alike, opposites mirror each other. The circle is cut at its widest gap.
 */
function similar({ data, units, steps }) {
  const courses = standardized(data, units, steps.length);
  const first = component(courses, units, null);
  const second = component(courses, units, first);
  const angles = first.map((x, unit) => Math.atan2(second[unit], x));
  const around = Array.from(angles.keys()).sort((one, other) => angles[one] - angles[other]);
  const gaps = around.map((unit, place) => (angles[around[(place + 1) % units]] - angles[unit] + 2 * Math.PI) % (2 * Math.PI));
  const cut = gaps.indexOf(Math.max(...gaps)) + 1;
  return [...around.slice(cut), ...around.slice(0, cut)];
}

/** (span, unit) with mean 0 and length 1 for each unit. */
function standardized(data, units, spans) {
  const courses = Float64Array.from(data);
  for (let unit = 0; unit < units; unit += 1) {
    let [sum, square] = [0, 0];
    for (let span = 0; span < spans; span += 1) sum += courses[span * units + unit];
    for (let span = 0; span < spans; span += 1) square += (courses[span * units + unit] -= sum / spans) ** 2;
    const length = Math.sqrt(square) || 1;
    for (let span = 0; span < spans; span += 1) courses[span * units + unit] /= length;
  }
  return courses;
}

/** The largest component of the correlations, or the largest but for one. */
function component(courses, units, before) {
  let vector = Float64Array.from({ length: units }, (_, unit) => Math.cos(unit + 1));
  for (let round = 0; round < ROUNDS; round += 1) {
    if (before) subtract(vector, before);
    vector = normalized(correlated(courses, units, vector));
  }
  return vector;
}

function correlated(courses, units, vector) {
  const result = new Float64Array(units);
  for (let row = 0; row < courses.length; row += units) {
    let product = 0;
    for (let unit = 0; unit < units; unit += 1) product += courses[row + unit] * vector[unit];
    for (let unit = 0; unit < units; unit += 1) result[unit] += product * courses[row + unit];
  }
  return result;
}

function subtract(vector, other) {
  const share = vector.reduce((sum, value, unit) => sum + value * other[unit], 0);
  for (let unit = 0; unit < vector.length; unit += 1) vector[unit] -= share * other[unit];
}

function normalized(vector) {
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}
