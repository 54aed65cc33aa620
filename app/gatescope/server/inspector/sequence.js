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
 * The body with another sequence in a row's place; what belonged to the sequence that was there goes with it.
 * @returns {object} a predict body
 */
export function replaced(body, row, sequence, info) {
  const kept = { ...(body?.horizon && !body.future_inputs && { horizon: body.horizon }), ...(body?.module && { module: body.module }) };
  const others = body ? (body.text !== undefined ? [body.text].flat() : sequences(body, info)) : [sequence];
  const several = others.map((other, index) => (index === row ? sequence : other));
  if (several.length < 2) return typeof sequence === "string" ? { text: sequence, ...kept } : { inputs: [sequence], ...kept };
  return typeof sequence === "string" ? { text: several, ...kept } : { inputs: several, ...kept };
}

/** The sequences of `inputs`, whichever way they are nested. */
function sequences({ inputs, layout, sequence_lengths: lengths }, info) {
  const depth = info.input.kind === "tokens" ? 2 : 3;
  if (depthOf(inputs) < depth) return [inputs];
  const rows = layout === "time_batch_feature" ? inputs[0].map((_, row) => inputs.map((step) => step[row])) : inputs;
  return lengths ? rows.map((row, index) => row.slice(0, lengths[index])) : rows;
}

/** @returns {number} how deeply lists are nested */
export function depthOf(value) {
  return Array.isArray(value) ? 1 + depthOf(value[0]) : 0;
}
