// One sequence of a predict body: taken out, written as text, put back.

/**
 * @param {object} body a predict body
 * @param {number} row which of its sequences
 * @param {object} info ModelInfo
 * @returns {string|any[]} its text, or its time steps
 */
export function ofSequence(body, row, info) {
  if (body.text !== undefined) return Array.isArray(body.text) ? body.text[row] : body.text;
  return sequences(body, info)[row];
}

/**
 * @param {string|any[]} sequence
 * @returns {string} as it is edited: the text, token ids side by side, or a line for each time step
 */
export function asText(sequence, info) {
  if (sequence === undefined) return "";
  if (typeof sequence === "string") return sequence;
  if (info.input.kind === "tokens") return sequence.join(" ");
  const names = info.input.feature_names;
  const lines = sequence.map((step) => step.join(", "));
  return (names ? [names.join(", "), ...lines] : lines).join("\n");
}

/**
 * @param {object} body a predict body
 * @param {number} row which of its sequences
 * @param {object} info ModelInfo
 * @returns {number[]} what it states of this sequence as a whole, in the model's order; empty where it says nothing
 */
export function staticOf({ static_inputs: given, static_columns: columns }, row, info) {
  if (!given || !info.static) return [];
  return inOrder(Array.isArray(given[0]) ? (given[row] ?? []) : given, columns, info.static.feature_names);
}

/** The body with these static inputs for every sequence, unless it has its own. @returns {object} a predict body */
export function withStatic(body, vector, info) {
  if (!info.static || body.static_inputs || vector.length === 0) return body;
  return { ...body, static_inputs: sequencesOf(body, info).map(() => vector) };
}

/**
 * The body with another sequence in a row's place; what belonged to the sequence that was there goes with it.
 * @param {number[]} vector what is stated of the new sequence as a whole
 * @returns {object} a predict body
 */
export function replaced(body, row, sequence, vector, info) {
  const others = body ? sequencesOf(body, info) : [sequence];
  const several = others.map((other, index) => (index === row ? sequence : other));
  const statics = others.map((_, index) => (index === row || !body?.static_inputs ? vector : staticOf(body, index, info)));
  const kept = {
    ...(statics.some(({ length }) => length > 0) && { static_inputs: statics }),
    ...(body?.horizon && !body.future_inputs && { horizon: body.horizon }),
    ...(body?.module && { module: body.module }),
  };
  if (several.length < 2) return typeof sequence === "string" ? { text: sequence, ...kept } : { inputs: [sequence], ...kept };
  return typeof sequence === "string" ? { text: several, ...kept } : { inputs: several, ...kept };
}

/** Its texts, or its sequences of time steps. */
function sequencesOf(body, info) {
  return body.text !== undefined ? [body.text].flat() : sequences(body, info);
}

/** The sequences of `inputs`, whichever way they are nested, with the features in the model's order. */
function sequences({ inputs, layout, sequence_lengths: lengths, columns }, info) {
  const depth = info.input.kind === "tokens" ? 2 : 3;
  const ordered = (steps) => (columns ? steps.map((step) => inOrder(step, columns, info.input.feature_names)) : steps);
  if (depthOf(inputs) < depth) return [ordered(inputs)];
  const rows = layout === "time_batch_feature" ? inputs[0].map((_, row) => inputs.map((step) => step[row])) : inputs;
  return rows.map((row, index) => ordered(lengths ? row.slice(0, lengths[index]) : row));
}

/** Numbers that are named by columns, in the order of these names. */
function inOrder(numbers, columns, names) {
  return columns ? names.map((name) => numbers[columns.indexOf(name)]) : numbers;
}

/** @returns {number} how deeply lists are nested */
export function depthOf(value) {
  return Array.isArray(value) ? 1 + depthOf(value[0]) : 0;
}
