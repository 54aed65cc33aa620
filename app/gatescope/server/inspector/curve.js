// A predicted quantity over time, or its quantiles, beside what was observed of it.

import { html, svg } from "./dom.js";
import { short } from "./number.js";
import { marked, spans } from "./spans.js";
import { move } from "./walk.js";

const HEIGHT = 200;
const MARGIN = { left: 56, right: 10, top: 12, bottom: 34 };
const TICKS = 4;
let curves = 0; // that there are, for the names of their patterns

/** One output of a regression as a curve; a press on it, or the arrow keys, move the cursor. */
export class Curve {
  constructor(page) {
    this.page = page;
    this.still = svg("g", {});
    this.hatched = `warmup-${(curves += 1)}`;
    const hatch = svg("path", { class: "hatch", d: "M0 6L6 0M-3 3L3 -3M3 9L9 3" });
    const defs = svg("defs", {}, svg("pattern", { id: this.hatched, width: 6, height: 6, patternUnits: "userSpaceOnUse" }, hatch));
    this.moving = svg("g", {});
    this.drawing = svg("svg", { class: "curve-drawing", "aria-hidden": "true", height: HEIGHT }, defs, this.still, this.moving);
    this.slider = html(
      "div",
      {
        class: "curve-slider",
        role: "slider",
        tabindex: 0,
        "aria-valuemin": 0,
        onkeydown: (event) => this.walk(event),
        onpointerdown: (event) => this.point(event),
        onpointermove: (event) => event.buttons === 1 && this.point(event),
      },
      this.drawing,
    );
    this.output = html("select", { "aria-label": "Predicted quantity", onchange: () => this.draw(this.outcome) });
    this.reading = html("p", { class: "curve-reading" });
    this.key = html("p", { class: "curve-key" });
    this.element = html("div", { class: "curve" }, html("div", { class: "curve-bar" }, this.output, this.key), this.slider, this.reading);
    new ResizeObserver(() => this.outcome && this.slider.clientWidth !== this.width && this.draw(this.outcome)).observe(this.slider);
  }

  /**
   * Draw the curve anew.
   * @param {import("./predicted.js").Predicted} outcome with values per step
   */
  draw(outcome) {
    const { from, to, sequence } = this.page.state.get();
    this.outcome = outcome;
    this.width = this.slider.clientWidth;
    if (!this.width) return; // drawn when it is laid out
    this.offer(outcome.head.names ?? outcome.values[0].map((_, index) => `value ${index}`));
    this.length = Math.max(this.page.trace.length(sequence), outcome.first + outcome.values.length);
    this.from = from ?? 0;
    this.to = Math.max(Math.min(to ?? this.length, this.length), this.from + 2);
    this.series = this.gathered(sequence);
    const seen = extent(this.series, this.from, this.to);
    this.y = scale(seen, [HEIGHT - MARGIN.bottom, MARGIN.top]);
    this.x = scale([this.from, this.to - 1], [MARGIN.left, this.width - MARGIN.right]);
    this.drawing.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.still.replaceChildren(
      ...this.ground(seen),
      ...this.band(),
      ...this.series.map(({ kind, at }) => svg("path", { class: `line ${kind}`, d: this.path(at) })),
    );
    this.key.replaceChildren(...this.series.map(({ name, kind }) => html("span", { class: `key ${kind}` }, name)));
    this.slider.setAttribute("aria-valuemax", this.length - 1);
    this.slider.setAttribute("aria-label", `${this.name} over time`);
    this.move();
  }

  /** Put the cursor where it is now. */
  move() {
    if (!this.series) return;
    const { time } = this.page.state.get();
    const x = this.x(time);
    const seen = time >= this.from && time < this.to;
    const dots = this.series
      .filter(({ at }) => Number.isFinite(at(time)))
      .map(({ kind, at }) => svg("circle", { class: `dot ${kind}`, cx: x, cy: this.y(at(time)), r: 3.5 }));
    this.moving.replaceChildren(
      ...(seen ? [svg("line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }), ...dots] : []),
    );
    const values = this.series.filter(({ at }) => Number.isFinite(at(time))).map(({ name, at }) => `${name} ${short(at(time))}`);
    this.reading.textContent = `Step ${time}${marked(this.page, time, this.marked)}: ${values.join(", ") || "no value"}`;
    this.slider.setAttribute("aria-valuenow", time);
    this.slider.setAttribute("aria-valuetext", this.reading.textContent);
  }

  /** The curve and its numbers, to be saved. */
  chart() {
    const steps = Array.from({ length: this.to - this.from }, (_, index) => this.from + index);
    const rows = steps.map((time) => [time, ...this.series.map(({ at }) => at(time))]);
    return {
      svg: this.drawing,
      data: { columns: ["time_step", ...this.series.map(({ column }) => column)], rows },
      name: "prediction",
    };
  }

  get name() {
    return this.output.selectedOptions[0]?.textContent ?? "value";
  }

  offer(names) {
    if (this.output.length === names.length && [...this.output.options].every((option, index) => option.textContent === names[index]))
      return;
    this.output.replaceChildren(...names.map((name, index) => html("option", { value: index }, name)));
    this.output.disabled = names.length === 1;
  }

  /** What was observed, where the quantity is an input too, and what was predicted, by time step. */
  gathered(sequence) {
    const { head, values, first, read } = this.outcome;
    const index = this.output.selectedIndex;
    const feature = this.page.info.input.feature_names?.indexOf(this.name) ?? -1;
    const inputs = this.page.trace.inputs?.[sequence];
    const observed = {
      name: "observed",
      kind: "observed",
      column: `observed ${this.name}`,
      at: (time) => (time < read ? (inputs[time]?.[feature] ?? NaN) : NaN),
    };
    const value = (place) => (time) => values[time - first]?.[place] ?? NaN;
    const quantiles = head.quantiles?.map((quantile, place, all) => ({
      name: `${quantile}-quantile`,
      kind: `predicted ${side(quantile)}`,
      column: `${this.name} ${quantile}`,
      at: value(index * all.length + place),
    }));
    const predicted = quantiles ?? [{ name: "predicted", kind: "predicted", column: `predicted ${this.name}`, at: value(index) }];
    return feature >= 0 && inputs ? [observed, ...predicted] : predicted;
  }

  /** What lies between the least and the largest quantile. */
  band() {
    const quantiles = this.outcome.head.quantiles ? this.series.filter(({ kind }) => kind !== "observed") : [];
    if (quantiles.length < 2) return [];
    const [low, high] = [quantiles[0].at, quantiles.at(-1).at];
    const corners = this.spans().map(([from, to]) => {
      const [least] = extremes(low, from, to);
      const [, largest] = extremes(high, from, to);
      return { x: this.x(from).toFixed(1), least, largest };
    });
    const known = corners.filter(({ least, largest }) => Number.isFinite(least) && Number.isFinite(largest));
    const ends = [...known.map(({ x, largest }) => [x, largest]), ...known.reverse().map(({ x, least }) => [x, least])];
    return ends.length > 0 ? [svg("path", { class: "band", d: `M${ends.map(([x, value]) => `${x} ${this.y(value).toFixed(1)}`).join("L")}Z` })] : [];
  }

  ground(seen) {
    const bottom = HEIGHT - MARGIN.bottom;
    const right = this.width - MARGIN.right;
    const lines = ticks(seen, TICKS).map((value) =>
      svg(
        "g",
        {},
        svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: this.y(value), y2: this.y(value) }),
        svg("text", { class: "tick", x: MARGIN.left - 6, y: this.y(value) + 4, "text-anchor": "end" }, short(value)),
      ),
    );
    const steps = ticks([this.from, this.to - 1], Math.max(2, Math.floor(this.width / 90))).filter(Number.isInteger);
    const times = steps.map((time) =>
      svg("text", { class: "tick", x: this.x(time), y: bottom + 15, "text-anchor": "middle" }, time.toLocaleString("en")),
    );
    return [...this.marks(), ...lines, ...times, svg("text", { class: "axis", x: right, y: HEIGHT - 4, "text-anchor": "end" }, "time step")];
  }

  /** Where the predictions of the spans stand: those of the next step, one step behind. */
  get marked() {
    const behind = this.page.trace.horizon ? 0 : this.outcome.first;
    return spans(this.page).map((span) => (span.kind === "warmup" ? { ...span, from: span.from + behind, to: span.to + behind } : span));
  }

  /** The ground under what is predicted within the warm-up, and under what was fed back. */
  marks() {
    const right = this.width - MARGIN.right;
    const height = HEIGHT - MARGIN.bottom - MARGIN.top;
    return this.marked
      .map(({ kind, from, to }) => ({ kind, x: Math.max(MARGIN.left, this.x(from - 0.5)), end: Math.min(right, this.x(to - 0.5)) }))
      .filter(({ x, end }) => x < end)
      .map(({ kind, x, end }) => svg("rect", { class: `ground ${kind}`, x, y: MARGIN.top, width: end - x, height, fill: kind === "warmup" && `url(#${this.hatched})` }));
  }

  /** The line through all values; where several fall on one pixel, through the first, least, largest and last of them. */
  path(at) {
    const parts = [];
    let open = false;
    for (const [from, to] of this.spans()) {
      for (const time of outline(at, from, to)) {
        parts.push(`${open ? "L" : "M"}${this.x(time).toFixed(1)} ${this.y(at(time)).toFixed(1)}`);
        open = true;
      }
      if (!Number.isFinite(at(from))) open = false;
    }
    return parts.join("");
  }

  /** The visible steps, those of one pixel together: the first one, and the one behind the last. */
  spans() {
    const spans = [];
    const width = Math.max(1, (this.to - this.from) / (this.width - MARGIN.left - MARGIN.right));
    for (let start = this.from; start < this.to; start += width) spans.push([Math.ceil(start), Math.min(Math.ceil(start + width), this.to)]);
    return spans;
  }

  point(event) {
    const { left } = this.slider.getBoundingClientRect();
    const share = (event.clientX - left - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    move(this.page, { time: Math.round(this.from + share * (this.to - 1 - this.from)) - this.page.state.get().time });
  }

  walk(event) {
    const steps = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: -steps, ArrowRight: steps, Home: -Infinity, End: Infinity };
    if (!(event.key in moves)) return;
    event.preventDefault();
    move(this.page, { time: moves[event.key] });
  }
}

/** The first, least, largest and last finite value of a few steps, in their order. */
function outline(at, from, to) {
  const kept = new Map();
  for (let time = from; time < to; time += 1) {
    const value = at(time);
    if (!Number.isFinite(value)) continue;
    if (!kept.has("first")) for (const name of ["first", "least", "largest"]) kept.set(name, time);
    if (value < at(kept.get("least"))) kept.set("least", time);
    if (value > at(kept.get("largest"))) kept.set("largest", time);
    kept.set("last", time);
  }
  return [...new Set(kept.values())].sort((one, other) => one - other);
}

/** The least and the largest value of a few steps; the least is the larger one where there is none. */
function extremes(at, from, to) {
  let [low, high] = [Infinity, -Infinity];
  for (let time = from; time < to; time += 1) {
    const value = at(time);
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** Where a quantile stands: its line is dotted below the median, and dashed above. */
function side(quantile) {
  if (quantile === 0.5) return "median";
  return quantile < 0.5 ? "below" : "above";
}

function extent(series, from, to) {
  const seen = series.map(({ at }) => extremes(at, from, to));
  const [low, high] = [Math.min(...seen.map(([least]) => least)), Math.max(...seen.map(([, largest]) => largest))];
  if (low > high) return [0, 1];
  const room = low === high ? 0.5 : 0.04 * (high - low);
  return [low - room, high + room];
}

function scale([low, high], [start, end]) {
  return (value) => start + ((value - low) / (high - low || 1)) * (end - start);
}

/** Round numbers between two values. */
function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}
