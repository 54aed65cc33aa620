// What the model makes of it: what each of its heads says, text written on, and how far that can be trusted.

import { HeadView } from "./head.js";
import { html } from "./dom.js";
import { capital } from "./gate.js";
import { predicted, predictedBeside } from "./predicted.js";
import { noteOf, nothingPredicted, verification } from "./verified.js";

const SAID_ELSEWHERE = ["unverified", "unknown_token"]; // what ModelInfo says, too, and what stands under the text

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
    this.none = html("p", { class: "none" });
    this.notes = html("div", { class: "notes" });
    this.written = html("p", { class: "written", role: "region", tabindex: 0, "aria-label": "Text that was given and written on" });
    this.first = new HeadView(page);
    this.beside = []; // a view of each other head
    this.others = html("div", { class: "others" });
    this.element = html(
      "div",
      { class: "prediction" },
      this.none,
      this.notes,
      this.written,
      this.first.element,
      this.others,
    );
  }

  draw() {
    const { trace, state, info } = this.page;
    this.element.hidden = !trace;
    if (!trace) return;
    const { sequence } = state.get();
    const length = trace.length(sequence);
    this.outcome = predicted(trace.meta, info, sequence, length);
    const others = this.outcome ? predictedBeside(trace.meta, info, sequence, length) : [];
    const kind = this.outcome?.kind;
    this.further.hidden = !["regression", "next_token"].includes(kind) || this.outcome.whole;
    this.horizon.value = this.outcome ? length - this.outcome.read : 0;
    this.none.hidden = Boolean(kind);
    this.none.textContent = nothingPredicted(info);
    this.drawNotes();
    this.written.hidden = kind !== "next_token" || !this.outcome.text;
    this.first.element.hidden = !kind;
    if (kind) this.first.draw(this.outcome, others.length > 0 ? this.outcome.head.name : "");
    this.drawOthers(others);
    this.moveWritten();
  }

  /** Whether it is verified, and what was assumed. */
  drawNotes() {
    const { trace, info } = this.page;
    const assumed = (trace.meta.notes ?? []).filter(({ code }) => !SAID_ELSEWHERE.includes(code));
    const notes = [this.outcome && verification(info), ...assumed.map(({ code, message }) => ({ text: capital(message), isWarning: code === "warmup" }))].filter(Boolean);
    this.notes.replaceChildren(...notes.map(noteOf));
    this.notes.hidden = notes.length === 0;
  }

  drawOthers(outcomes) {
    if (this.beside.length !== outcomes.length) this.beside = outcomes.map(() => new HeadView(this.page));
    this.others.replaceChildren(...this.beside.map(({ element }) => element));
    this.others.hidden = outcomes.length === 0;
    for (const [index, view] of this.beside.entries()) view.draw(outcomes[index], outcomes[index].head.name);
  }

  /** What depends on the cursor. */
  move() {
    if (!this.page.trace || !this.outcome) return;
    this.moveWritten();
    for (const view of [this.first, ...this.beside]) view.move();
  }

  moveWritten() {
    const { sequence, time } = this.page.state.get();
    if (!this.written.hidden) this.drawWritten(sequence, time);
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

  chart() {
    return this.outcome ? this.first.chart(this.element) : { element: this.element, data: { columns: [], rows: [] }, name: "prediction" };
  }
}
