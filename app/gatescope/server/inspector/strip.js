// One unit over time: what was read, its signals under each other, and the arithmetic at the cursor.

import { arithmetic } from "./arithmetic.js";
import { TimeChart } from "./chart.js";
import { html } from "./dom.js";
import { AXIS, drawAxis, drawExtent, drawInputs, drawName, drawSeries, inks } from "./draw.js";
import { title } from "./signals.js";
import { drawEdges, drawGround, explain, legend } from "./spans.js";

const ROW = 42; // pixels
const GAP = 6;

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
    this.spans = legend();
    this.sums = html("div", {});
    this.element = html("div", { class: "strip", hidden: true }, this.plot.element, this.spans, this.sums);
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
    const height = (trace.signals.length + 1) * (ROW + GAP);
    const context = this.plot.begin(height + AXIS);
    const { axis } = this.plot;
    drawGround(context, axis, height, this.#page);
    drawInputs(context, axis, { y: 0, height: ROW }, this.#page);
    for (const [index, signal] of trace.signals.entries()) {
      const row = { y: (index + 1) * (ROW + GAP), height: ROW };
      const points = this.#points(signal.symbol);
      const [least, most] = around(points);
      const extent = [signal.low ?? least, signal.high ?? most];
      drawLevels(context, axis, row, extent);
      drawName(context, row.y + ROW / 2, signal.symbol, title(signal));
      drawExtent(context, row, extent);
      drawSeries(context, axis, row, extent, points, trace.isState(signal) ? inks().accent : inks().ink);
    }
    if (!trace.meta.tokens) drawAxis(context, axis, height, this.#page);
    drawEdges(context, axis, height, this.#page);
    explain(this.spans, this.#page);
  }

  #points(symbol) {
    const { mean, least, most } = this.#course;
    const { axis } = this.plot;
    return Array.from(mean[symbol], (value, span) => {
      const stop = mean.steps[span + 1] ?? axis.to;
      return { x: (axis.x(mean.steps[span]) + axis.x(stop)) / 2, least: least[symbol][span], most: most[symbol][span], mean: value };
    });
  }

  /** The cursor, and at it the cell's arithmetic. */
  async point() {
    const { trace, state } = this.#page;
    if (!trace || !this.#course) return;
    this.plot.showCursor();
    const pointing = (this.#pointing = {});
    const lines = await arithmetic(trace, state.get());
    if (pointing !== this.#pointing || trace !== this.#page.trace) return;
    this.sums.replaceChildren(...lines.map((line) => html("p", { class: "arithmetic" }, line)));
    this.plot.showCursor();
  }

  chart() {
    const { mean, unit } = this.#course;
    const symbols = this.#page.trace.signals.map(({ symbol }) => symbol);
    const rows = mean.steps.map((time, span) => [time, ...symbols.map((symbol) => mean[symbol][span])]);
    return { canvas: this.plot.canvas, data: { columns: ["time_step", ...symbols], rows }, name: `unit-${unit}` };
  }
}

/** Lines at the bottom, at nothing and at the top of a row. */
function drawLevels(context, axis, { y, height }, [low, high]) {
  context.fillStyle = inks().line;
  const level = (value) => y + height - 3 - ((value - low) / (high - low || 1)) * (height - 6);
  for (const value of new Set([low, Math.max(low, Math.min(0, high)), high])) context.fillRect(axis.left, Math.round(level(value)), axis.width, 1);
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
