// Both readings of a bidirectional LSTM, in input time: forward, reverse, and how they are spliced.

import { html, svg } from "./dom.js";
import { short } from "./number.js";
import { limits } from "./statistics.js";
import { blockAt } from "./step.js";
import { visible } from "./token.js";

const COLUMNS = 9; // steps around the cursor
const WIDTH = 480;
const MARGIN = 22;
const ROW = 30;
const LANES = { forward: 6, reverse: 86 }; // the top of each
const TOKENS = 64; // the line on which the tokens stand

/**
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 */
export function mount(element, page) {
  const view = new SpliceView(page);
  element.append(view.element);
  page.state.on(["time", "unit", "layer", "direction", "sequence"], () => view.draw());
  page.on("trace", () => view.draw());
  page.on("theme", () => view.draw());
  view.draw();
}

class SpliceView {
  constructor(page) {
    this.page = page;
    this.figure = svg("svg", { class: "splice-figure", viewBox: `0 0 ${WIDTH} 124`, role: "img", "aria-label": "" });
    this.words = html("p", { class: "splice-words" });
    this.element = html("div", { class: "splice" }, html("h3", {}, "Both readings, spliced"), this.figure, this.words);
  }

  async draw() {
    const { trace, state } = this.page;
    this.element.hidden = trace?.meta.directions.length !== 2;
    if (this.element.hidden) return;
    const where = state.get();
    const drawn = (this.drawn = {});
    const steps = columns(where.time, trace.length(where.sequence));
    const signal = trace.signals.find(({ name }) => name === "hidden_state"); // every cell's output
    const directions = Object.keys(LANES).map((direction) => ({ ...where, direction }));
    const lanes = await Promise.all(directions.map((there) => hidden(trace, there, steps, signal.symbol)));
    const ranges = await Promise.all(directions.map((there) => limits(trace, there, signal)));
    if (drawn !== this.drawn) return;
    this.most = Math.max(...ranges.map(({ high }) => high)); // one scale for both directions
    const [forward, reverse] = lanes.map((lane) => lane[steps.indexOf(where.time)]);
    const units = trace.width("hidden_state"); // fewer than the cell has, behind a projection
    const given =
      where.unit < units ? `unit ${where.unit} gives ${short(forward)} and ${short(reverse)}` : `none of them is unit ${where.unit}'s own`;
    this.words.textContent = `Output at step ${where.time}: ${units} forward units, then ${units} reverse units; ${given}.`;
    this.figure.setAttribute("aria-label", `Hidden state of unit ${where.unit} around step ${where.time}. ${this.words.textContent}`);
    this.figure.replaceChildren(...this.drawing(where, steps, lanes));
  }

  drawing(where, steps, lanes) {
    const width = (WIDTH - 2 * MARGIN) / steps.length;
    const tokens = this.page.trace.meta.tokens?.[where.sequence];
    const boxes = Object.entries(LANES).flatMap(([direction, top], lane) => [
      ...steps.map((_, column) => this.box(MARGIN + column * width, top, width, lanes[lane][column])),
      arrow(direction, top + ROW / 2),
    ]);
    const names = steps.map((time, column) => {
      const room = Math.max(1, Math.floor(width / 8));
      const name = visible(String(tokens?.[time] ?? time));
      return svg(
        "text",
        { class: time === where.time ? "token now" : "token", x: MARGIN + (column + 0.5) * width, y: TOKENS },
        name.length > room ? `${name.slice(0, room - 1)}…` : name,
      );
    });
    const now = MARGIN + steps.indexOf(where.time) * width;
    return [...boxes, ...names, svg("rect", { class: "now", x: now, y: 2, width, height: 120, rx: 4 })];
  }

  box(x, y, width, value) {
    const filled = this.page.colours.state(value / this.most);
    const box = svg("rect", { x: x + 1, y, width: width - 2, height: ROW, rx: 3 });
    box.style.fill = filled;
    const text = svg("text", { class: "lane-value", x: x + width / 2, y: y + 20 }, short(value));
    text.style.fill = this.page.colours.on(filled);
    return svg("g", {}, box, text);
  }
}

function columns(time, length) {
  const count = Math.min(COLUMNS, length);
  const first = Math.max(0, Math.min(time - Math.floor(count / 2), length - count));
  return Array.from({ length: count }, (_, column) => first + column);
}

async function hidden(trace, where, steps, symbol) {
  return Promise.all(
    steps.map(async (time) => {
      const block = await blockAt(trace, where, time);
      return block[symbol]?.[time - block.from] ?? NaN;
    }),
  );
}

function arrow(direction, y) {
  const forward = direction === "forward";
  const x = forward ? WIDTH - 16 : 16;
  return svg("path", { class: "arrow", d: `M${x} ${y - 6}l${forward ? 9 : -9} 6l${forward ? -9 : 9} 6Z` });
}
