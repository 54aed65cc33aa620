// Where in the trace one looks: sequence, layer, direction, unit, and the visible span of time.

import { html } from "./dom.js";
import { clamp, follow, zoom } from "./walk.js";

/**
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 */
export function mount(element, page) {
  const view = new Where(page);
  element.append(view.element);
  page.on("trace", () => view.offer());
  page.state.on(["sequence", "layer", "direction", "unit", "from", "to", "feature"], () => view.show());
  page.state.on(["time"], () => page.trace && follow(page));
  page.state.on(["sequence"], () => page.trace && view.stayWithin());
}

class Where {
  #page;

  constructor(page) {
    this.#page = page;
    const { state } = page;
    this.lists = {
      module: html("select", { onchange: (event) => state.set({ module: event.target.value }) }),
      sequence: html("select", { onchange: (event) => state.set({ sequence: Number(event.target.value) }) }),
      layer: html("select", { onchange: (event) => state.set({ layer: Number(event.target.value) }) }),
      direction: html("select", { onchange: (event) => state.set({ direction: event.target.value }) }),
      feature: html("select", { onchange: (event) => state.set({ feature: Number(event.target.value) }) }),
    };
    this.unit = number((value) => state.set({ unit: clamp(value, 0, page.trace.meta.units.length - 1) }));
    this.from = number((value) => this.#show(value, state.get().to));
    this.to = number((value) => this.#show(state.get().from, value));
    const zooming = (text, label, action) => html("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
    this.element = html(
      "div",
      { class: "where", role: "group", "aria-label": "What is looked at", hidden: true },
      ...Object.entries(this.lists).map(([name, list]) => html("label", {}, `${capital(name)} `, list)),
      html("label", {}, "Unit ", this.unit),
      html(
        "span",
        { class: "span" },
        html("label", {}, "Steps ", this.from),
        html("label", {}, "to ", this.to),
        zooming("−", "Show more time", () => zoom(page, 2)),
        zooming("+", "Show less time", () => zoom(page, 0.5)),
        zooming("All", "Show all time", () => state.set({ from: 0, to: null })),
      ),
    );
  }

  /** What this trace has to choose from; where there is one thing, there is no choice. */
  offer() {
    this.element.hidden = !this.#page.trace;
    if (!this.#page.trace) return;
    const { meta } = this.#page.trace;
    const { input } = this.#page.info;
    const features = input.kind === "features" ? (input.feature_names ?? Array.from({ length: this.#page.info.lstm.input_size }, (_, index) => `feature ${index}`)) : [];
    fill(this.lists.module, this.#page.info.lstms.map(({ name }) => [name, name]));
    fill(this.lists.sequence, meta.sequence_lengths.map((length, index) => [index, `${index} (${length.toLocaleString("en")} steps)`]));
    fill(this.lists.layer, meta.layers.map((layer) => [layer, layer]));
    fill(this.lists.direction, meta.directions.map((direction) => [direction, direction]));
    fill(this.lists.feature, features.map((feature, index) => [index, feature]));
    this.unit.max = meta.units.length - 1;
    this.show();
  }

  show() {
    const { trace, state } = this.#page;
    if (!trace) return;
    const where = state.get();
    for (const [name, list] of Object.entries(this.lists)) list.value = where[name];
    this.lists.module.value = trace.meta.module;
    this.unit.value = where.unit;
    this.from.value = where.from;
    this.to.value = where.to ?? trace.length(where.sequence);
    this.from.max = this.to.max = trace.length(where.sequence);
  }

  /** Another sequence may be shorter. */
  stayWithin() {
    const { trace, state } = this.#page;
    const { sequence, time } = state.get();
    state.set({ time: Math.min(time, trace.length(sequence) - 1), from: 0, to: null });
  }

  #show(first, last) {
    const { trace, state } = this.#page;
    const length = trace.length(state.get().sequence);
    const from = clamp(first, 0, length - 1);
    const to = clamp(last ?? length, from + 1, length);
    state.set({ from, to: to === length ? null : to });
    this.show();
  }
}

function number(change) {
  return html("input", { type: "number", min: 0, onchange: (event) => change(Math.round(Number(event.target.value))) });
}

function fill(list, choices) {
  list.replaceChildren(...choices.map(([value, text]) => html("option", { value }, text)));
  list.parentElement.hidden = choices.length < 2;
}

function capital(name) {
  return name[0].toUpperCase() + name.slice(1);
}
