// One unit over time: what was read, the six signals under each other, and the arithmetic at the cursor.

import { TimeChart } from "./chart.js";
import { html } from "./dom.js";
import { AXIS, drawAxis, drawExtent, drawInputs, drawName, drawSeries, inks } from "./draw.js";
import { factor, short } from "./number.js";
import { stepAt } from "./step.js";

const ROW = 42; // pixels
const GAP = 6;
const ROWS = [
  ["i", "input gate", [0, 1]],
  ["f", "forget gate", [0, 1]],
  ["g", "cell candidate", [-1, 1]],
  ["o", "output gate", [0, 1]],
  ["c", "cell state", null],
  ["h", "hidden state", [-1, 1]],
];

/**
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 */
export function mount(element, page) {
  const view = new Strip(page);
  element.append(view.element);
  page.state.on(["sequence", "layer", "direction", "unit", "from", "to", "feature"], () => view.draw());
  page.state.on(["time"], () => view.point());
  page.on("trace", () => view.draw());
  page.on("theme", () => view.draw());
  return { chart: () => view.chart() };
}

class Strip {
  #page;
  #drawing = null;
  #pointing = null;
  #course = null;

  constructor(page) {
    this.#page = page;
    this.plot = new TimeChart(page, {
      label: "Cursor over one unit's signals; left and right move it in time, up and down choose another unit",
      describe: () => this.sums.textContent,
    });
    this.plot.onresize = () => this.draw();
    this.cell = html("p", { class: "arithmetic" });
    this.hidden = html("p", { class: "arithmetic" });
    this.sums = html("div", {}, this.cell, this.hidden);
    this.element = html("div", { class: "strip", hidden: true }, this.plot.element, this.sums);
  }

  async draw() {
    const { trace, state } = this.#page;
    const drawing = (this.#drawing = {});
    this.element.hidden = !trace;
    if (!trace) return;
    const { sequence, layer, direction, unit, from, to } = state.get();
    this.plot.axis ?? this.plot.begin(1);
    const part = { sequence, layer, direction, unit, from, to: to ?? trace.length(sequence), bins: this.plot.bins };
    const reductions = part.to - part.from > part.bins ? ["mean", "min", "max"] : ["mean"];
    const courses = await Promise.all(reductions.map((reduce) => trace.unit({ ...part, reduce })));
    if (drawing !== this.#drawing) return;
    const [mean, least = mean, most = mean] = courses;
    this.#course = { mean, least, most, unit };
    this.#paint();
    this.point();
  }

  #paint() {
    const { trace } = this.#page;
    const context = this.plot.begin((ROWS.length + 1) * (ROW + GAP) + AXIS);
    const { axis } = this.plot;
    drawInputs(context, axis, { y: 0, height: ROW }, this.#page);
    for (const [index, [letter, name, bounds]] of ROWS.entries()) {
      const row = { y: (index + 1) * (ROW + GAP), height: ROW };
      const points = this.#points(letter);
      const extent = bounds && within(points, bounds) ? bounds : around(points);
      drawGround(context, axis, row, extent);
      drawName(context, row.y + ROW / 2, letter, name);
      drawExtent(context, row, extent);
      drawSeries(context, axis, row, extent, points, letter === "c" || letter === "h" ? inks().accent : inks().ink);
    }
    if (!trace.meta.tokens) drawAxis(context, axis, (ROWS.length + 1) * (ROW + GAP), this.#page);
  }

  #points(letter) {
    const { mean, least, most } = this.#course;
    const { axis } = this.plot;
    return Array.from(mean[letter], (value, span) => {
      const stop = mean.steps[span + 1] ?? axis.to;
      return { x: (axis.x(mean.steps[span]) + axis.x(stop)) / 2, least: least[letter][span], most: most[letter][span], mean: value };
    });
  }

  /** The cursor, and the two lines of arithmetic at it. */
  async point() {
    const { trace, state } = this.#page;
    if (!trace || !this.#course) return;
    this.plot.showCursor();
    const pointing = (this.#pointing = {});
    const step = await stepAt(trace, state.get());
    if (pointing !== this.#pointing || trace !== this.#page.trace) return;
    const { previousName: before, i, f, g, o, c, h, previousCell, tanh } = step;
    this.cell.textContent = `c = f·c(${before}) + i·g = ${short(f)}·${factor(previousCell)} + ${short(i)}·${factor(g)} = ${short(c)}`;
    this.hidden.textContent = this.#projected() ? `o·tanh(c) = ${short(o)}·${factor(tanh)} = ${short(o * tanh)}, which the projection mixes with the other units` : `h = o·tanh(c) = ${short(o)}·${factor(tanh)} = ${short(h)}`;
    this.plot.showCursor();
  }

  #projected() {
    const { trace } = this.#page;
    return trace.width("hidden_state") !== trace.width("cell_state");
  }

  chart() {
    const { mean, unit } = this.#course;
    const letters = ROWS.map(([letter]) => letter);
    const rows = mean.steps.map((time, span) => [time, ...letters.map((letter) => mean[letter][span])]);
    return { canvas: this.plot.canvas, data: { columns: ["time_step", ...letters], rows }, name: `unit-${unit}` };
  }
}

/** Lines at the bottom, at nothing and at the top of a row. */
function drawGround(context, axis, { y, height }, [low, high]) {
  context.fillStyle = inks().line;
  const level = (value) => y + height - 3 - ((value - low) / (high - low || 1)) * (height - 6);
  for (const value of new Set([low, Math.max(low, Math.min(0, high)), high])) context.fillRect(axis.left, Math.round(level(value)), axis.width, 1);
}

function within(points, [low, high]) {
  return points.every(({ least, most }) => !(least < low) && !(most > high));
}

/** From the least to the most, nothing included. */
function around(points) {
  let [low, high] = [0, 0];
  for (const { least, most } of points) {
    if (least < low) low = least;
    if (most > high) high = most;
  }
  return low === high ? [-1, 1] : [low, high];
}
