// Every unit over time: a heatmap for each signal, under what was read.

import { GUTTER, TimeChart } from "./chart.js";
import { Colours } from "./colours.js";
import { html } from "./dom.js";
import { AXIS, drawAxis, drawInputs, drawName, fontOf, inks } from "./draw.js";
import { Heatmap } from "./heatmap.js";
import { precise, short } from "./number.js";
import { basis, ordered, sortsOf } from "./order.js";
import { title } from "./signals.js";
import { drawBars, drawEdges, drawGround, explain, legend, marked } from "./spans.js";
import { limits } from "./statistics.js";
import { valuesAt } from "./step.js";
import { visible } from "./token.js";

const INPUTS = 40; // pixels
const GAP = 8;
const ROW = { all: 12, one: 16 }; // pixels for each unit, within the bounds below
const HEIGHT = { all: [44, 84], one: [160, 460] };

/**
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 * @param {HTMLElement} toolbar
 */
export function mount(element, page, toolbar) {
  const view = new Overview(page);
  toolbar.append(view.signals, view.sorts);
  element.append(view.element);
  const drawn = ["sequence", "layer", "direction", "signal", "sort", "from", "to", "feature"];
  page.state.on(drawn, () => view.draw());
  page.state.on(["time", "unit"], () => view.point());
  page.on("trace", () => view.draw());
  page.on("theme", () => view.draw());
  return { chart: () => view.chart() };
}

class Overview {
  #page;
  #drawing = null;
  #rows = [];
  #order = [];
  #here = ""; // what stands at the cursor
  #pointing = null;

  constructor(page) {
    this.#page = page;
    this.plot = new TimeChart(page, {
      label: "Cursor over every unit and time step; left and right move it in time, up and down over the units as they are shown",
      describe: () => this.#here,
      point: (x, y) => this.#unitAt(y),
      hover: (x, y) => this.#read(x, y),
    });
    this.plot.onresize = () => this.draw();
    this.signals = chooser("Show", (value) => page.state.set({ signal: value || null }));
    this.sorts = chooser("Units by", (value) => page.state.set({ sort: value }));
    this.legend = html("div", { class: "legend" });
    this.spans = legend();
    this.basis = html("p", { class: "hint" });
    this.reading = html("p", { class: "reading" });
    this.element = html("div", { class: "overview", hidden: true }, this.plot.element, html("div", { class: "under" }, this.legend, this.reading), this.spans, this.basis);
  }

  async draw() {
    const { trace, state } = this.#page;
    const drawing = (this.#drawing = {});
    this.element.hidden = !trace;
    if (!trace) return;
    const where = state.get();
    const one = trace.signals.find(({ name }) => name === where.signal);
    const shown = one ? [one] : trace.signals;
    const names = trace.signals.map((signal) => [signal.name, title(signal), signal.description]);
    offer(this.signals, [["", "all signals"], ...names], one?.name ?? "");
    offer(this.sorts, Object.entries(sortsOf(trace)), where.sort);
    const span = { from: where.from, to: where.to ?? trace.length(where.sequence) };
    const part = { sequence: where.sequence, layer: where.layer, direction: where.direction, ...span };
    this.plot.axis ?? this.plot.begin(1);
    const [order, ranges, tiles] = await Promise.all([
      ordered(trace, where),
      Promise.all(shown.map((signal) => limits(trace, part, signal))),
      Promise.all(shown.map(({ name }) => trace.tile({ ...part, signal: name, bins: this.plot.bins }))),
    ]);
    if (drawing !== this.#drawing) return;
    this.#order = this.#page.order = order;
    this.#rows = this.#placed(shown, ranges, tiles, one ? "one" : "all");
    this.#paint();
    this.#explainColours();
    this.basis.textContent = basis(trace, where);
    this.point();
  }

  /** The heatmaps under each other. */
  #placed(shown, ranges, tiles, mode) {
    const units = this.#page.trace.meta.units.length;
    const [least, most] = HEIGHT[mode];
    const height = Math.max(least, Math.min(units * ROW[mode], most));
    return shown.map((signal, index) => {
      const order = this.#order.filter((unit) => unit < tiles[index].units);
      const y = INPUTS + GAP + index * (height + GAP);
      return { signal, y, height, map: new Heatmap(tiles[index], order, ranges[index], Colours.kind(signal)) };
    });
  }

  #paint() {
    const { y, height } = this.#rows.at(-1);
    const context = this.plot.begin(y + height + AXIS);
    const { axis } = this.plot;
    drawGround(context, axis, y + height, this.#page);
    drawInputs(context, axis, { y: 0, height: INPUTS }, this.#page);
    for (const row of this.#rows) {
      drawName(context, row.y + row.height / 2, row.signal.symbol, title(row.signal));
      row.map.draw(context, { x: axis.left, y: row.y, width: axis.width, height: row.height }, this.#page.colours);
      if (this.#rows.length === 1) drawUnits(context, row);
    }
    if (!this.#page.trace.meta.tokens) drawAxis(context, axis, y + height, this.#page);
    drawBars(context, axis, this.#rows, this.#page);
    drawEdges(context, axis, y + height, this.#page);
    explain(this.spans, this.#page);
    this.plot.marks.replaceChildren(...this.#rows.map(() => html("div", { class: "unit-mark" })));
  }

  /** The cursor, the unit and the values there, without drawing anything anew. */
  async point() {
    const { trace, state } = this.#page;
    const pointing = (this.#pointing = {});
    if (!trace || this.#rows.length === 0) return;
    this.plot.showCursor();
    for (const [index, row] of this.#rows.entries()) this.#mark(this.plot.marks.children[index], row);
    const where = state.get();
    const step = await valuesAt(trace, where);
    if (pointing !== this.#pointing || trace !== this.#page.trace) return;
    const values = this.#rows.map(({ signal }) => `${signal.symbol} ${short(step[signal.symbol])}`);
    this.#here = `Step ${where.time}${marked(this.#page, where.time)}, unit ${where.unit}: ${values.join(", ")}`;
    this.reading.textContent = this.#here;
    this.plot.showCursor();
  }

  /** Where in a heatmap the unit stands. */
  #mark(mark, { y, height, map }) {
    const place = map.order.indexOf(this.#page.state.get().unit);
    const each = height / map.order.length;
    mark.hidden = place < 0;
    mark.classList.toggle("thin", each < 4);
    mark.style.transform = `translateY(${y + place * each}px)`;
    mark.style.height = `${each}px`;
  }

  #rowAt(y) {
    return this.#rows.find((row) => y >= row.y && y < row.y + row.height);
  }

  #unitAt(y) {
    const row = this.#rowAt(y);
    return row ? { unit: row.map.unitAt((y - row.y) / row.height) } : {};
  }

  #read(x, y) {
    const row = y === null ? null : this.#rowAt(y);
    if (!row || x < this.plot.axis.left) {
      this.reading.textContent = this.#here;
      return;
    }
    const unit = row.map.unitAt((y - row.y) / row.height);
    this.reading.textContent = `${title(row.signal)} of unit ${unit} ${this.#valueAt(row, unit, this.plot.axis.at(x))}`;
  }

  #valueAt({ map }, unit, time) {
    const { value, first, last } = map.valueAt(unit, time, this.plot.axis.to);
    const token = this.#page.trace.meta.tokens?.[this.#page.state.get().sequence]?.[time];
    const at = last > first ? `mean of steps ${first} to ${last}` : `step ${time}${token === undefined ? "" : ` “${visible(token)}”`}${marked(this.#page, time)}`;
    return `at ${at}: ${short(value)}`;
  }

  #explainColours() {
    const merged = new Map();
    for (const { signal, map } of this.#rows) {
      const { low, high, clipped } = map.range;
      const key = [map.kind, low, high].join();
      merged.set(key, { kind: map.kind, low, high, clipped, signals: [...(merged.get(key)?.signals ?? []), signal] });
    }
    this.legend.replaceChildren(...[...merged.values()].map((scale) => this.#scale(scale)));
  }

  #scale({ kind, low, high, clipped, signals }) {
    const bar = html("span", { class: "scale" });
    bar.style.background = this.#page.colours.gradient(kind);
    const symbols = signals.map(({ symbol }) => symbol).join(", ");
    const described = signals.map((signal) => `${title(signal)}: ${signal.description}`).join("\n");
    const [least, most] = clipped ? ["≤ ", "≥ "] : ["", ""]; // some units go beyond
    return html("span", { title: described }, html("i", {}, symbols), ` ${least}${precise(low, 3)} `, bar, ` ${most}${precise(high, 3)}`);
  }

  chart() {
    const rows = this.#rows.flatMap(({ signal, map }) => map.order.map((unit) => [signal.name, unit, ...map.courseOf(unit)]));
    return { canvas: this.plot.canvas, data: { columns: ["signal", "unit", ...this.#rows[0].map.steps], rows }, name: "overview" };
  }
}

function drawUnits(context, { y, height, map }) {
  const each = height / map.order.length;
  const every = Math.max(1, Math.ceil(12 / each));
  context.font = fontOf(10);
  context.fillStyle = inks().muted;
  context.textAlign = "right";
  for (let place = 0; place < map.order.length; place += every) context.fillText(map.order[place], GUTTER - 4, y + (place + 0.5) * each);
}

/** A choice with its label. */
function chooser(label, choose) {
  return html("label", {}, `${label} `, html("select", { onchange: (event) => choose(event.target.value) }));
}

/** Let people choose between these, each a value, a text and what explains it; one of them is chosen. */
function offer(label, choices, chosen) {
  const list = label.querySelector("select");
  const same = list.length === choices.length && choices.every(([value], index) => list.options[index].value === value);
  if (!same) list.replaceChildren(...choices.map(([value, text, description]) => html("option", { value, title: description }, text)));
  list.value = choices.some(([value]) => value === chosen) ? chosen : choices[0][0];
}
