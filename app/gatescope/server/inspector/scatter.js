// How saturated the units are: a point for each, at how often its gate was shut and how often it was open.

import { html } from "./dom.js";
import { fontOf, inks } from "./draw.js";
import { percent } from "./number.js";
import { isGate, title } from "./signals.js";
import { saturation } from "./statistics.js";
import { move } from "./walk.js";

const MARGIN = { left: 44, right: 18, top: 10, bottom: 38 };
const LARGEST = 320; // pixels of its square
const REACH = 14; // pixels around a point in which it is hit
const LAYERS = ["#1d5fbf", "#c8641c", "#1f8a5b", "#9a4bb5", "#8a6d1a", "#3d8ea8"]; // readable on light and on dark

/**
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 * @param {HTMLElement} toolbar
 */
export function mount(element, page, toolbar) {
  const view = new Scatter(page);
  toolbar.append(view.gate);
  element.append(view.element);
  page.state.on(["sequence", "gate"], () => view.draw());
  page.state.on(["unit", "layer", "direction"], () => view.point());
  page.on("trace", () => view.draw());
  page.on("theme", () => view.draw());
  return { chart: () => view.chart() };
}

class Scatter {
  #page;
  #drawing = null;
  #points = [];

  constructor(page) {
    this.#page = page;
    this.list = html("select", { onchange: (event) => page.state.set({ gate: event.target.value }) });
    this.gate = html("label", {}, "Gate ", this.list);
    this.canvas = html("canvas", { "aria-hidden": "true" });
    this.ring = html("div", { class: "ring" });
    this.slider = html(
      "div",
      { class: "plot", role: "slider", tabindex: 0, "aria-label": "Saturation of the units; up and down choose a unit", "aria-valuemin": 0, onpointerdown: (event) => this.#press(event), onpointermove: (event) => this.#hover(event), onpointerleave: () => this.point(), onkeydown: (event) => this.#key(event) },
      this.ring,
    );
    this.key = html("p", { class: "legend" });
    this.reading = html("p", { class: "hint" });
    const chart = html("div", { class: "chart" }, this.canvas, this.slider);
    this.element = html("div", { class: "scatter" }, chart, this.key, this.reading);
    new ResizeObserver(() => this.#page.trace && this.#points.length && this.canvas.clientWidth !== this.width && this.#paint()).observe(chart);
  }

  async draw() {
    const { trace, state } = this.#page;
    const drawing = (this.#drawing = {});
    const gates = trace?.signals.filter(isGate) ?? [];
    this.element.closest("section").hidden = gates.length === 0; // a cell without gates
    if (gates.length === 0) return;
    const { sequence } = state.get();
    this.list.replaceChildren(...gates.map((signal) => html("option", { value: signal.name, title: signal.description }, title(signal))));
    this.shown = gates.find(({ name }) => name === state.get().gate) ?? gates[0];
    this.list.value = this.shown.name;
    const gate = this.shown.name;
    const stacks = trace.meta.layers.flatMap((layer) => trace.meta.directions.map((direction) => ({ layer, direction })));
    const found = await Promise.all(stacks.map((stack) => saturation(trace, { ...stack, sequence, signal: gate })));
    if (drawing !== this.#drawing) return;
    this.exact = found.every(({ exact }) => exact);
    this.#points = stacks.flatMap((stack, index) => Array.from(found[index].left, (left, unit) => ({ ...stack, unit, left, right: found[index].right[unit] })));
    this.#paint();
  }

  #paint() {
    this.width = this.canvas.parentElement.clientWidth;
    this.side = Math.min(this.width - MARGIN.left - MARGIN.right, LARGEST);
    const height = MARGIN.top + this.side + MARGIN.bottom;
    const scale = window.devicePixelRatio;
    [this.canvas.width, this.canvas.height] = [Math.round(this.width * scale), Math.round(height * scale)];
    this.canvas.style.height = `${height}px`;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    this.#drawGround(context);
    for (const point of this.#points) this.#drawPoint(context, point);
    this.#explain();
    this.point();
  }

  #place({ left, right }) {
    return [MARGIN.left + left * this.side, MARGIN.top + (1 - right) * this.side];
  }

  #drawGround(context) {
    const { muted, line } = inks();
    context.strokeStyle = line;
    context.strokeRect(MARGIN.left + 0.5, MARGIN.top + 0.5, this.side, this.side);
    context.beginPath();
    context.moveTo(MARGIN.left, MARGIN.top);
    context.lineTo(MARGIN.left + this.side, MARGIN.top + this.side);
    context.stroke();
    context.fillStyle = muted;
    context.font = fontOf(11);
    for (const share of [0, 0.5, 1]) {
      context.textAlign = "center";
      context.fillText(`${100 * share}%`, MARGIN.left + share * this.side, MARGIN.top + this.side + 15);
      context.textAlign = "right";
      context.fillText(`${100 * share}%`, MARGIN.left - 5, MARGIN.top + (1 - share) * this.side + 4);
    }
    context.textAlign = "center";
    context.fillText("steps at which it is shut (below 0.1)", MARGIN.left + this.side / 2, MARGIN.top + this.side + 31);
    context.save();
    context.translate(11, MARGIN.top + this.side / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("open (above 0.9)", 0, 0);
    context.restore();
  }

  #drawPoint(context, point) {
    const [x, y] = this.#place(point);
    context.beginPath();
    if (point.direction === "reverse") context.rect(x - 3, y - 3, 6, 6);
    else context.arc(x, y, 3.5, 0, 2 * Math.PI);
    context.globalAlpha = 0.6;
    context.fillStyle = LAYERS[point.layer % LAYERS.length];
    context.fill();
    context.globalAlpha = 1;
  }

  #explain() {
    const { layers, directions } = this.#page.trace.meta;
    const entries = layers.flatMap((layer) => directions.map((direction) => [layer, direction]));
    const key = ([layer, direction]) => {
      const mark = html("span", { class: direction === "reverse" ? "dot square" : "dot" });
      mark.style.background = LAYERS[layer % LAYERS.length];
      return html("span", {}, mark, ` layer ${layer}${directions.length > 1 ? `, ${direction}` : ""}`);
    };
    this.key.replaceChildren(...(entries.length > 1 ? entries.map(key) : []), ...(this.exact ? [] : [html("span", {}, "over means of short spans: the sequence is long")]));
  }

  /** Mark the unit that is looked at. */
  point() {
    const { unit, layer, direction } = this.#page.state.get();
    const here = this.#points.find((point) => point.unit === unit && point.layer === layer && point.direction === direction);
    this.ring.hidden = !here;
    if (!here) return;
    const [x, y] = this.#place(here);
    this.ring.style.transform = `translate(${x}px, ${y}px)`;
    this.#say(here);
    this.slider.setAttribute("aria-valuemax", this.#page.trace.meta.units.length - 1);
    this.slider.setAttribute("aria-valuenow", unit);
    this.slider.setAttribute("aria-valuetext", this.reading.textContent);
  }

  #say({ layer, direction, unit, left, right }) {
    const { layers, directions } = this.#page.trace.meta;
    const where = `${layers.length > 1 ? `layer ${layer}, ` : ""}${directions.length > 1 ? `${direction}, ` : ""}unit ${unit}`;
    this.reading.textContent = `${capital(where)}: ${title(this.shown)} shut at ${percent(left)} of the steps, open at ${percent(right)}`;
  }

  #nearest({ offsetX, offsetY }) {
    const distance = (point) => Math.hypot(...this.#place(point).map((place, axis) => place - [offsetX, offsetY][axis]));
    const near = this.#points.map((point) => [distance(point), point]).filter(([far]) => far <= REACH);
    return near.reduce((best, other) => (other[0] < best[0] ? other : best), [Infinity, null])[1];
  }

  #press(event) {
    const point = this.#nearest(event);
    if (point) this.#page.state.set({ layer: point.layer, direction: point.direction, unit: point.unit });
  }

  #hover(event) {
    const point = this.#nearest(event);
    this.slider.style.cursor = point ? "pointer" : "default";
    if (point) this.#say(point);
    else this.point();
  }

  #key(event) {
    const by = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !this.#page.trace) return;
    event.preventDefault();
    move(this.#page, { unit: by });
  }

  chart() {
    const columns = ["layer", "direction", "unit", "left", "right"];
    return { canvas: this.canvas, data: { columns, rows: this.#points.map((point) => columns.map((name) => point[name])) }, name: `saturation-${this.shown.name}` };
  }
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}
