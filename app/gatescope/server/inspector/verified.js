// Whether predictions are what the training code computes, and what of a model is not computed.

import { html } from "./dom.js";

const BY = { sample: "a sample", graph: "its graph", code: "its code" };
const NOT_VERIFIED = "Not verified: these predictions were never compared with numbers of the training code. Import it with --sample.";
const PLACES = { before: "before the recurrent layers", behind: "behind the recurrent layers" };

/**
 * @typedef {{text: string, isWarning: boolean}} Statement
 */

/**
 * @param {object} info ModelInfo
 * @returns {Statement|null} null for a model that predicts nothing and was not compared with anything
 */
export function verification({ verified, output }) {
  if (verified) return { text: verifiedBy(verified), isWarning: false };
  return output.kind === "output" ? null : { text: NOT_VERIFIED, isWarning: true };
}

/** @param {object} verified of ModelInfo; only numbers of a sample have an error */
function verifiedBy({ by, max_error: error }) {
  return by === "sample" ? `Verified by ${BY[by]}, ${closeness(error)}` : `Verified by ${BY[by] ?? by}`;
}

/** @param {object} info ModelInfo @returns {Statement[]} which weights are missing in what is computed */
export function leftOut({ not_computed: missing, ignored }) {
  const said = [];
  if (missing.length > 0) said.push({ text: `Not computed: ${named(missing)}.`, isWarning: true });
  if (ignored.length > 0) said.push({ text: `Left aside when it was imported: ${ignored.join(", ")}.`, isWarning: false });
  return said;
}

/** @param {Statement} said @returns {HTMLElement} options of the command stand in it as code, which is not broken into lines */
export function noteOf({ text, isWarning }) {
  const parts = text.split(/(--\w+)/).map((part) => (part.startsWith("--") ? html("code", {}, part) : part));
  return html("p", { class: isWarning ? "note warning" : "note", role: "note" }, ...parts);
}

/** @param {object} info ModelInfo @returns {string} why there is no prediction */
export function nothingPredicted({ not_computed: missing, output }) {
  if (output.kind !== "output") return "The request asks for no prediction.";
  if (missing.length > 0) return `This model predicts nothing, because something is not computed: ${named(missing)}.`;
  return "This model has no head: it predicts nothing.";
}

function named(missing) {
  return missing.map(({ name, kind, place }) => `${name} (${kind}) ${PLACES[place]}`).join(", ");
}

/** How far the two were apart, by one digit. */
function closeness(error) {
  return error === 0 ? "exactly" : `to ${error.toExponential(0).replace("-", "−")}`;
}
