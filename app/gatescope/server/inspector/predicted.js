// What a prediction says, and of which time step it says it.

/**
 * @typedef {object} Predicted
 * @property {string} kind the model's task
 * @property {boolean} whole one prediction for the whole sequence
 * @property {number} read how many steps were given; the ones after them were run on for a `horizon`
 * @property {number} first the time step that `values[0]` speaks of
 * @property {any[]} values per time step, or of the whole sequence
 * @property {number[][]|number[]|null} probabilities
 * @property {string[]|string|null} labels the likeliest of each step, or of the whole sequence
 * @property {string|null} text what a model of text wrote
 */

/**
 * @param {object} meta a trace reply without its signals
 * @param {object} info ModelInfo
 * @param {number} sequence
 * @param {number} length its time steps
 * @returns {Predicted|null} null for a model that predicts nothing
 */
export function predicted(meta, info, sequence, length) {
  const values = meta.prediction?.values?.[sequence];
  if (!values) return null;
  const whole = !Array.isArray(values[0]);
  const horizon = !whole && values.length < length ? values.length : 0;
  const next = info.output.predicts === "next_step" && !horizon ? 1 : 0;
  return {
    kind: info.output.kind,
    whole,
    read: length - horizon,
    first: horizon ? length - horizon : next,
    values,
    probabilities: meta.prediction.probabilities?.[sequence] ?? null,
    labels: meta.prediction.labels?.[sequence] ?? null,
    text: meta.prediction.text?.[sequence] ?? null,
  };
}

/**
 * The likeliest labels, likeliest first.
 * @param {number[]} probabilities of one step
 * @param {string[]} labels all that there are
 * @param {number} count
 * @returns {{label: string, probability: number}[]}
 */
export function likeliest(probabilities, labels, count) {
  const best = [];
  for (let index = 0; index < probabilities.length; index += 1) {
    const probability = probabilities[index];
    if (best.length === count && probability <= best[count - 1].probability) continue;
    const place = best.findIndex((other) => other.probability < probability);
    best.splice(place < 0 ? best.length : place, 0, { label: labels?.[index] ?? String(index), probability });
    best.length = Math.min(best.length, count);
  }
  return best;
}

/**
 * The probabilities of what comes at, or after, a time step.
 * @param {Predicted} outcome
 * @param {number} time the step that was read last
 * @returns {number[]|null} null where there is no prediction
 */
export function after(outcome, time) {
  if (!outcome?.probabilities) return null;
  if (outcome.whole) return outcome.probabilities;
  const ahead = outcome.kind === "next_token" ? 1 : 0;
  return outcome.probabilities[time + ahead - outcome.first] ?? null;
}
