// What a prediction says, and of which time step it says it.

/**
 * @typedef {object} Head one prediction of a model, as ModelInfo describes it
 * @property {string} name
 * @property {string} kind its task
 * @property {string[]|null} names of quantities
 * @property {string[]|null} labels all that there are
 * @property {number[]|null} quantiles of each name, side by side in the values
 * @property {number|null} threshold the probability from which on a label is given
 * @property {"same_step"|"next_step"|null} predicts
 */

/**
 * @typedef {object} Predicted
 * @property {Head} head whose prediction it is
 * @property {string} kind the head's task
 * @property {boolean} whole one prediction for the whole sequence
 * @property {number} read how many steps were given; the ones after them were run on for a `horizon`
 * @property {number} first the time step that `values[0]` speaks of
 * @property {any[]} values per time step, or of the whole sequence
 * @property {number[][]|number[]|null} probabilities of each label; null of quantities and behind a CRF
 * @property {any[]|string|null} labels the one that is given at each step, or of the whole sequence; lists where several may be
 * @property {string|null} text what a model of text wrote
 */

/**
 * What the first head says.
 * @param {object} meta a trace reply without its signals
 * @param {object} info ModelInfo
 * @param {number} sequence
 * @param {number} length its time steps
 * @returns {Predicted|null} null for a model that predicts nothing
 */
export function predicted(meta, { output }, sequence, length) {
  const [first] = output.heads;
  return first ? said(meta, meta.prediction, { ...first, labels: output.labels }, sequence, length) : null; // a vocabulary stands in `output`
}

/** What the other heads say, in their order. @returns {Predicted[]} */
export function predictedBeside(meta, { output }, sequence, length) {
  return output.heads
    .slice(1)
    .map((head) => said(meta, meta.heads?.[head.name], head, sequence, length))
    .filter(Boolean);
}

function said(meta, prediction, head, sequence, length) {
  const values = prediction?.values?.[sequence];
  if (!values) return null;
  const whole = !Array.isArray(values[0]);
  const horizon = whole ? 0 : (meta.horizon ?? 0);
  const next = head.predicts === "next_step" && !horizon ? 1 : 0;
  return {
    head,
    kind: head.kind,
    whole,
    read: length - horizon,
    first: horizon ? length - horizon : next,
    values,
    probabilities: prediction.probabilities?.[sequence] ?? null,
    labels: prediction.labels?.[sequence] ?? null,
    text: prediction.text?.[sequence] ?? null,
  };
}

/** @param {Predicted} outcome @returns {boolean} whether its values are quantities, not scores of labels */
export function isQuantity({ kind }) {
  return kind === "regression" || kind === "quantile";
}

/** What each of the values is called. @param {Predicted} outcome of quantities @returns {string[]} such as "q_mm", or "q_mm 0.1" */
export function columnsOf({ head, values, whole }) {
  const names = head.names ?? (whole ? values : values[0]).map((_, index) => `value ${index}`);
  return head.quantiles ? names.flatMap((name) => head.quantiles.map((quantile) => `${name} ${quantile}`)) : names;
}

/** The label that is given at a time step, or of the whole sequence; a list where several may be. */
export function labelAt({ labels, whole, first }, time) {
  return whole ? labels : labels?.[time - first];
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
