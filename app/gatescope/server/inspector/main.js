// Joins the parts: the model, its stored trace, and the views of it.

import { Problem } from "./api.js";
import { html } from "./dom.js";
import { mount as mountInput } from "./input.js";
import { Notice } from "./notice.js";
import { mount as mountOverview } from "./overview.js";
import { Page } from "./page.js";
import { mount as mountPrediction } from "./prediction.js";
import { mount as mountCell } from "./cell.js";
import { mount as mountScatter } from "./scatter.js";
import { exportMenu, mount as mountShare } from "./share.js";
import { mount as mountStrip } from "./strip.js";
import { mount as mountText } from "./text.js";
import { Trace } from "./trace.js";
import { mount as mountWhere } from "./where.js";

/** The views, each in the section of its name; another one needs a section in index.html and a line here. */
const VIEWS = [
  ["input", "Input", mountInput],
  ["prediction", "Prediction", mountPrediction],
  ["overview", "Every unit over time", mountOverview],
  ["strip", "One unit over time", mountStrip],
  ["text", "The text, coloured by the unit", mountText],
  ["cell", "The cell, step by step", mountCell],
  ["scatter", "How saturated the units are", mountScatter],
];

/** Parts of the page that show nothing without a trace. */
const NEEDS_TRACE = ["prediction", "middle", "right"];

const NO_MODEL = { title: "There is no model to look at", status: 0, detail: "None in the folder of models is ready; GET /v1/models says why." };

/** What a trace is asked for by; the rest of the state says how it is looked at. */
const ASKING = ["model", "version", "request", "trace", "horizon", "module"];

const page = new Page();
const notice = new Notice(document.getElementById("notice"), page);
const status = document.getElementById("status");
let looking = new AbortController();
let asked = null; // what the trace that is under way or seen was asked for by
let seen = null; // what the one that is seen was

start();

function start() {
  mountFrame();
  for (const [name, title, mount] of VIEWS) mountView(name, title, mount);
  page.state.on(ASKING, () => !isAsked() && look());
  look();
}

function mountFrame() {
  const progress = document.getElementById("progress");
  page.api.onBusy = (requests) => {
    progress.hidden = requests === 0;
  };
  page.api.askForKey = () => notice.askForKey();
  window.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    notice.show(event.reason);
  });
  const theme = document.getElementById("theme");
  const label = () => {
    theme.textContent = page.theme === "dark" ? "Light" : "Dark";
  };
  theme.addEventListener("click", () => page.switchTheme());
  page.on("theme", label);
  label();
  mountShare(document.getElementById("share"), page);
  mountWhere(document.getElementById("where"), page);
}

/** A view: a heading, a toolbar with what its chart can be saved as, a body. */
function mountView(name, title, mount) {
  const section = document.getElementById(name);
  const toolbar = html("div", { class: "toolbar" });
  const body = html("div", { class: "body" });
  section.setAttribute("aria-labelledby", `${name}-title`);
  section.append(html("header", {}, html("h2", { id: `${name}-title` }, title), toolbar), body);
  const view = mount(body, page, toolbar);
  if (view?.chart) exportMenu(toolbar, view.chart, page);
}

/** Have what the state asks for traced, and show it; what is still under way is given up, what is seen stays until then. */
async function look() {
  looking.abort();
  looking = new AbortController();
  const { signal } = looking;
  asked = asking();
  status.textContent = "Computing the trace…";
  await notice.guard(async () => {
    const info = await describe(signal);
    try {
      show(info, await traced(info, signal));
    } catch (error) {
      if (!signal.aborted) refused(info);
      throw error;
    }
  });
  if (!signal.aborted) status.textContent = page.trace ? summary(page.trace) : "Give the model a sequence: type, paste or drop one under Input.";
}

/** What the state asks for. */
function asking() {
  const state = page.state.get();
  return Object.fromEntries(ASKING.map((name) => [name, state[name]]));
}

function isAsked() {
  const state = page.state.get();
  return ASKING.every((name) => state[name] === asked[name]);
}

/** What is seen stays, in the address too, if it is this model's; what was typed stays to be mended. */
function refused(info) {
  if (page.info !== info || !page.trace) {
    show(info, null);
    return;
  }
  asked = seen;
  page.state.set(seen);
}

/** ModelInfo of the model that the state names, else of the first one that is ready. */
async function describe(signal) {
  if (page.models.length === 0) page.models = (await page.api.get("/v1/models", { signal })).models;
  const { model, version } = page.state.get();
  const name = model ?? page.models.find(({ state }) => state === "ready")?.name;
  if (name === undefined) throw new Problem(NO_MODEL);
  if (page.info?.name === name && page.asked === version) return page.info;
  page.asked = version;
  const path = `/v1/models/${encodeURIComponent(name)}`;
  return page.api.get(version ? `${path}/versions/${encodeURIComponent(version)}` : path, { signal });
}

async function traced(info, signal) {
  const { request, trace: stored, horizon, module } = page.state.get();
  if (!request && stored) return Trace.open(page.api, info, stored, null, signal);
  const body = page.bodyOf(info);
  return body ? Trace.create(page.api, info, changed(body, { horizon, module }), signal) : null;
}

/** A predict body with what was chosen beside it; null is what the body says itself. */
function changed({ horizon: own, ...body }, { horizon, module }) {
  const steps = horizon ?? own;
  return { ...body, ...(steps ? { horizon: steps } : {}), ...(module ? { module } : {}) };
}

function show(info, trace) {
  const isNew = page.info !== info;
  [page.info, page.trace, page.order] = [info, trace, null];
  for (const part of NEEDS_TRACE) document.getElementById(part).hidden = !trace;
  if (trace) page.state.set({ ...within(page.state.get(), trace), trace: trace.request && page.state.fits ? null : trace.id });
  asked = seen = asking();
  if (isNew) page.emit("model");
  page.emit("trace");
}

/** What is looked at, and the proof that it is what the model computed. */
function summary({ meta }) {
  const { name, version } = meta.model;
  const steps = meta.sequence_lengths.reduce((sum, length) => sum + length, 0).toLocaleString("en");
  return `${name}, version ${version} · ${steps} steps · residual ${meta.residual.toExponential(1).replace("-", "−")}`;
}

/** What the state says, as far as this trace has it. */
function within({ sequence, layer, direction, unit, time, from, to }, { meta }) {
  const least = (value, count) => Math.max(0, Math.min(value, count - 1));
  const row = least(sequence, meta.sequence_lengths.length);
  const length = meta.sequence_lengths[row];
  return {
    sequence: row,
    layer: least(layer, meta.layers.length),
    direction: meta.directions.includes(direction) ? direction : meta.directions[0],
    unit: least(unit, meta.units.length),
    time: least(time, length),
    from: from < length ? from : 0,
    to: to !== null && to < length && from < to ? to : null,
  };
}
