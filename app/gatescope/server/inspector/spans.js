// The time steps that are unlike the others: the model's warm-up, and those that read its own predictions.

import { html } from "./dom.js";
import { inks } from "./draw.js";

const HATCH = 6; // pixels from one stroke to the next
const BAR = 3; // pixels, along the top of a heatmap

/**
 * @typedef {object} Span some time steps of the sequence in view
 * @property {"warmup"|"fed-back"} kind also the class of what stands for it
 * @property {number} from
 * @property {number} to the step behind the last one
 * @property {string} name
 * @property {string} meaning
 */

const KINDS = {
  warmup: { name: "warm-up", meaning: "not to be believed: the model has read too little" },
  "fed-back": { name: "fed back", meaning: "the model read its own predictions" },
};

/**
 * @param {import("./page.js").Page} page
 * @returns {Span[]} none of a module whose time steps are not those of the inputs
 */
export function spans({ info, trace, state }) {
  const { sequence } = state.get();
  const length = trace.length(sequence);
  if (!trace.isAligned(sequence)) return [];
  const warmup = trace.request?.initial_state ? 0 : Math.min(info.warmup_steps, length); // what led to a given state is not known
  const found = [span("warmup", 0, warmup), span("fed-back", length - trace.horizon, length)];
  return found.filter(({ from, to }) => from < to);
}

function span(kind, from, to) {
  return { kind, from, to, ...KINDS[kind] };
}

/** @returns {Span[]} those that a time step lies in */
export function spansAt(page, time) {
  return covering(spans(page), time);
}

function covering(among, time) {
  return among.filter(({ from, to }) => time >= from && time < to);
}

/** @returns {string} the names of the spans that a time step lies in, such as " (fed back)"; else nothing */
export function marked(page, time, among = spans(page)) {
  const names = covering(among, time).map(({ name }) => name);
  return names.length > 0 ? ` (${names.join(", ")})` : "";
}

/** @returns {string} the classes of what stands for a time step, a space before each */
export function classesAt(page, time) {
  return spansAt(page, time).map(({ kind }) => ` ${kind}`).join("");
}

/** @returns {HTMLElement} what the marks mean, for under a picture; hidden where there are none */
export function legend() {
  return html("p", { class: "span-keys", hidden: true });
}

/** Say in a legend what this sequence has, of some kinds only where these are given. */
export function explain(element, page, kinds = Object.keys(KINDS)) {
  const keys = spans(page)
    .filter(({ kind }) => kinds.includes(kind))
    .map(({ kind, from, to, name, meaning }) => {
      const steps = to - from === 1 ? `step ${from}` : `steps ${from.toLocaleString("en")} to ${(to - 1).toLocaleString("en")}`;
      return html("span", { class: `span-key ${kind}` }, `${name}, ${steps}: ${meaning}`);
    });
  element.replaceChildren(...keys);
  element.hidden = keys.length === 0;
}

/**
 * The ground of a canvas over time: warm-up hatched, fed-back steps tinted.
 * @param {CanvasRenderingContext2D} context
 * @param {import("./chart.js").TimeAxis} axis
 * @param {number} height pixels
 */
export function drawGround(context, axis, height, page) {
  const { muted, accent } = inks();
  for (const { kind, left, width } of visible(axis, page)) {
    context.fillStyle = kind === "warmup" ? hatched(context, muted) : accent;
    context.globalAlpha = kind === "warmup" ? 0.3 : 0.12;
    context.fillRect(left, 0, width, height);
    context.globalAlpha = 1;
  }
}

/** Over heatmaps, whose colours must stay: a bar along the top of each. @param {{y: number}[]} rows */
export function drawBars(context, axis, rows, page) {
  const { ink, accent, panel } = inks();
  for (const { kind, left, width } of visible(axis, page)) {
    for (const { y } of rows) {
      context.fillStyle = panel;
      context.fillRect(left, y - BAR, width, BAR);
      context.fillStyle = kind === "warmup" ? hatched(context, ink) : accent;
      context.fillRect(left, y - BAR, width, BAR);
    }
  }
}

/** A dashed line where a span begins or ends within what is visible. */
export function drawEdges(context, axis, height, page) {
  context.save();
  context.strokeStyle = inks().ink;
  context.setLineDash([4, 3]);
  for (const { from, to } of spans(page)) {
    for (const time of [from, to].filter((edge) => edge > axis.from && edge < axis.to)) {
      context.beginPath();
      context.moveTo(Math.round(axis.x(time)) + 0.5, 0);
      context.lineTo(Math.round(axis.x(time)) + 0.5, height);
      context.stroke();
    }
  }
  context.restore();
}

function visible(axis, page) {
  return spans(page)
    .map(({ kind, from, to }) => ({ kind, first: Math.max(from, axis.from), stop: Math.min(to, axis.to) }))
    .filter(({ first, stop }) => first < stop)
    .map(({ kind, first, stop }) => ({ kind, left: axis.x(first), width: axis.x(stop) - axis.x(first) }));
}

function hatched(context, colour) {
  const tile = new OffscreenCanvas(HATCH, HATCH);
  const stroke = tile.getContext("2d");
  stroke.strokeStyle = colour;
  stroke.lineWidth = 1.5;
  for (const shift of [-HATCH, 0, HATCH]) {
    stroke.moveTo(shift, HATCH);
    stroke.lineTo(shift + HATCH, 0);
  }
  stroke.stroke();
  return context.createPattern(tile, "repeat");
}
