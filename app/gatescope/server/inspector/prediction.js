// What the model makes of it: a curve, class probabilities, tags under the words, text written on.

import { Curve } from "./curve.js";
import { html } from "./dom.js";
import { short } from "./number.js";
import { after, likeliest, predicted } from "./predicted.js";
import { visible } from "./token.js";

const LIKELIEST = 8;
const TAGS = 256; // words that stand on the page at once

/**
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 * @param {HTMLElement} toolbar
 */
export function mount(element, page, toolbar) {
  const view = new PredictionView(page);
  toolbar.append(view.further);
  element.append(view.element);
  page.state.on(["sequence", "from", "to"], () => view.draw());
  page.state.on(["time"], () => view.move());
  page.on("trace", () => view.draw());
  page.on("theme", () => view.draw());
  view.draw();
  return { chart: () => view.chart() };
}

class PredictionView {
  constructor(page) {
    this.page = page;
    this.horizon = html("input", {
      type: "number",
      min: 0,
      step: 1,
      onchange: () => page.state.set({ horizon: Number(this.horizon.value) }),
    });
    this.further = html("label", { class: "further", hidden: true }, "Further steps ", this.horizon);
    this.curve = new Curve(page);
    this.none = html("p", { class: "none" }, "This model has no head: it predicts nothing.");
    this.written = html("p", { class: "written", role: "region", tabindex: 0, "aria-label": "Text that was given and written on" });
    this.tags = html("div", { class: "tags", role: "group", "aria-label": "Tag of each time step" });
    this.classes = html("table", { class: "classes" });
    this.element = html("div", { class: "prediction" }, this.none, this.curve.element, this.written, this.tags, this.classes);
  }

  draw() {
    const { trace, state, info } = this.page;
    this.element.hidden = !trace;
    if (!trace) return;
    const { sequence } = state.get();
    this.outcome = predicted(trace.meta, info, sequence, trace.length(sequence));
    const kind = this.outcome?.kind;
    this.further.hidden = !["regression", "next_token"].includes(kind) || this.outcome.whole;
    this.horizon.value = this.outcome ? trace.length(sequence) - this.outcome.read : 0;
    this.none.hidden = Boolean(kind);
    this.written.hidden = kind !== "next_token" || !this.outcome.text;
    this.tags.hidden = kind !== "tagging";
    this.curve.element.hidden = kind !== "regression" || this.outcome.whole;
    if (!this.curve.element.hidden) this.curve.draw(this.outcome);
    this.move();
  }

  /** What depends on the cursor. */
  move() {
    if (!this.page.trace) return;
    const { sequence, time } = this.page.state.get();
    if (!this.curve.element.hidden) this.curve.move();
    if (!this.written.hidden) this.drawWritten(sequence, time);
    if (!this.tags.hidden) this.drawTags(sequence, time);
    this.drawClasses(sequence, time);
  }

  /** What was given and what the model wrote on, with the cursor in it. */
  drawWritten(sequence, time) {
    const tokens = this.page.trace.meta.tokens[sequence];
    const { read } = this.outcome;
    const parts = [
      [tokens.slice(0, Math.min(time, read)), "given"],
      [time < read ? [] : tokens.slice(read, time), "own"],
      [[tokens[time]], "now"],
      [time < read ? tokens.slice(time + 1, read) : [], "given"],
      [tokens.slice(Math.max(read, time + 1)), "own"],
    ];
    this.written.replaceChildren(...parts.map(([some, kind]) => html(kind === "now" ? "mark" : "span", { class: kind }, some.join(""))));
  }

  drawTags(sequence, time) {
    const tokens = this.page.trace.meta.tokens?.[sequence] ?? this.outcome.labels.map((_, step) => String(step));
    const first = Math.floor(time / TAGS) * TAGS;
    if (this.tagged !== this.outcome.labels || this.firstTag !== first) {
      [this.tagged, this.firstTag] = [this.outcome.labels, first];
      this.tags.replaceChildren(...tokens.slice(first, first + TAGS).map((token, index) => this.tag(token, first + index)));
    }
    this.tags.querySelector("[aria-current]")?.removeAttribute("aria-current");
    this.tags.children[time - first]?.setAttribute("aria-current", "true");
  }

  tag(token, time) {
    const label = this.outcome.labels[time];
    const probability = Math.max(...this.outcome.probabilities[time]);
    const title = `step ${time}: ${label}, ${percent(probability)}`;
    const onclick = () => this.page.state.set({ time });
    const words = [html("span", { class: "word" }, visible(token)), html("span", { class: "label" }, label)];
    const made = html("button", { type: "button", class: "tag", title, onclick }, ...words);
    made.style.setProperty("--likely", percent(probability));
    return made;
  }

  /** The likeliest labels here, or the values of one prediction for the whole sequence. */
  drawClasses(sequence, time) {
    const probabilities = this.outcome && after(this.outcome, time);
    const best = probabilities && likeliest(probabilities, this.page.info.output.labels, LIKELIEST);
    const rows = best ? best.map(({ label, probability }) => classRow(visible(label), probability)) : this.wholeRows();
    this.classes.hidden = !rows.length;
    const columns = best ? ["Label", "Probability"] : ["Quantity", "Prediction"];
    const head = html("tr", {}, ...columns.map((name) => html("th", { scope: "col" }, name)));
    this.classes.replaceChildren(html("caption", {}, this.caption(sequence, time)), html("thead", {}, head), html("tbody", {}, ...rows));
  }

  wholeRows() {
    if (this.outcome?.kind !== "regression" || !this.outcome.whole) return [];
    const { names } = this.page.info.output;
    return this.outcome.values.map((value, index) =>
      html("tr", {}, html("th", { scope: "row" }, names?.[index] ?? index), html("td", {}, short(value))),
    );
  }

  caption(sequence, time) {
    if (this.outcome?.whole) return "For the whole sequence";
    const token = this.page.trace.meta.tokens?.[sequence]?.[time];
    const at = `step ${time}` + (token === undefined ? "" : `, “${visible(token)}”`);
    return this.outcome?.kind === "next_token" ? `Expected after ${at}` : `At ${at}`;
  }

  chart() {
    if (!this.curve.element.hidden) return this.curve.chart();
    return { element: this.element, data: this.outcome ? this.data() : { columns: [], rows: [] }, name: "prediction" };
  }

  data() {
    const { labels, names } = this.page.info.output;
    const { whole, first, probabilities, values } = this.outcome;
    if (whole) return { columns: labels ?? names, rows: [probabilities ?? values] };
    return { columns: ["time_step", ...labels], rows: probabilities.map((step, index) => [first + index, ...step]) };
  }
}

function classRow(label, probability) {
  const bar = html("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", probability);
  return html("tr", {}, html("th", { scope: "row" }, label), html("td", {}, bar, html("span", {}, percent(probability))));
}

function percent(share) {
  if (share > 0 && share < 0.0001) return "<0.01%";
  return `${(100 * share).toFixed(share > 0 && share < 0.01 ? 2 : 1)}%`;
}
