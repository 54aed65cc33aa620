// The textbook figure of the cell, with one step's numbers in it.

import { svg } from "./dom.js";
import { short } from "./number.js";

const WIDTH = 480;
const HEIGHT = 340;
const CELL_LINE = 64; // where c runs along the top
const HIDDEN_LINE = 268; // where h and x run along the bottom
const GATE = { width: 70, height: 46, y: 200 };
const ROOM = { gate: 48, aside: 62 }; // for a gate's value beside its gauge, and for one between two wires
const FONT = 15;
const CHARACTER = 0.6; // the width of a digit, by the size of the font

/** The four gates from left to right, as the figure has them. */
const GATES = [
  { name: "f", x: 108, activation: "σ" },
  { name: "i", x: 188, activation: "σ" },
  { name: "g", x: 268, activation: "tanh" },
  { name: "o", x: 348, activation: "σ" },
];

/**
 * What carries a value from one place to the next; `stage` is when it does so: forget, write, update, show.
 * A wire without a value is a vector: x and h, which every gate reads whole.
 */
const WIRES = [
  { stage: 1, path: `M0 ${HIDDEN_LINE}H348` },
  { stage: 1, path: `M80 ${HEIGHT - 18}V280Q80 ${HIDDEN_LINE} 94 ${HIDDEN_LINE}` },
  ...GATES.map(({ x }) => ({ stage: 1, path: `M${x} ${HIDDEN_LINE}V223` })),
  { stage: 1, value: "previousCell", path: `M0 ${CELL_LINE}H97` },
  { stage: 1, value: "f", gate: true, path: `M108 177V75` },
  { stage: 2, value: "i", gate: true, path: "M188 177V146Q188 132 202 132H257" },
  { stage: 2, value: "g", path: "M268 177V143" },
  { stage: 3, value: "kept", path: `M119 ${CELL_LINE}H257` },
  { stage: 3, value: "written", path: "M268 121V75" },
  { stage: 3, value: "c", path: `M279 ${CELL_LINE}H${WIDTH - 7}` },
  { stage: 4, value: "c", path: `M400 ${CELL_LINE}V90` },
  { stage: 4, value: "tanh", path: "M400 118V139" },
  { stage: 4, value: "o", gate: true, path: "M348 177V164Q348 150 362 150H389" },
  { stage: 4, value: "h", path: `M400 161V254Q400 ${HIDDEN_LINE} 414 ${HIDDEN_LINE}H${WIDTH - 7}` },
];

const OPERATIONS = [
  { sign: "×", x: 108, y: CELL_LINE },
  { sign: "+", x: 268, y: CELL_LINE },
  { sign: "×", x: 268, y: 132 },
  { sign: "×", x: 400, y: 150 },
];

/** Where each part can be pressed: the middle and the size of its button, in shares of the figure. */
export const PLACES = Object.fromEntries(
  [...GATES.map(({ name, x }) => [name, x, GATE.y, GATE.width, GATE.height]), ["c", 268, CELL_LINE, 34, 34], ["h", 400, 150, 34, 34]].map(
    ([name, x, y, width, height]) => [name, { x: x / WIDTH, y: y / HEIGHT, width: width / WIDTH, height: height / HEIGHT }],
  ),
);

/** The figure; `show` puts a step's numbers into it and `flow` lets them run through it once. */
export class Diagram {
  constructor() {
    this.wires = WIRES.map((wire) => ({
      ...wire,
      casing: svg("path", { class: "casing", d: wire.path, "stroke-width": 0 }),
      line: svg("path", { class: wire.value ? "wire" : "wire vector", d: wire.path }),
      pulse: svg("path", { class: `pulse stage-${wire.stage}`, d: wire.path, pathLength: 100 }),
    }));
    this.gates = GATES.map(gate);
    this.labels = labels();
    this.element = svg(
      "svg",
      { class: "cell-diagram", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "" },
      svg("rect", { class: "cell-body", x: 56, y: 14, width: 366, height: 276, rx: 16 }),
      ...this.wires.flatMap(({ casing, line }) => [casing, line]),
      ...this.wires.map(({ pulse }) => pulse),
      ...this.gates.map(({ element }) => element),
      ...OPERATIONS.map(operation),
      svg("ellipse", { class: "operation", cx: 400, cy: 104, rx: 23, ry: 14 }),
      svg("text", { class: "sign small", x: 400, y: 108 }, "tanh"),
      arrow(CELL_LINE),
      arrow(HIDDEN_LINE),
      ...Object.values(this.labels).map(({ element }) => element),
    );
  }

  /**
   * @param {import("./step.js").Step} step
   * @param {{gate: (value: number) => string, state: (value: number) => string}} colours
   * @param {string} description what a screen reader says of the figure
   */
  show(step, colours, description) {
    for (const { value, gate: isGate, casing, line } of this.wires) {
      if (!value) continue;
      const size = isGate ? step[value] : Math.tanh(step[value]);
      const known = Number.isFinite(size);
      const width = known ? 1.5 + 4.5 * Math.abs(size) : 1.5;
      line.style.strokeWidth = width;
      casing.style.strokeWidth = width + 1;
      line.style.stroke = known ? (isGate ? colours.gate(size) : colours.state(size)) : "";
    }
    for (const { name, value, fill, fillFrom } of this.gates) {
      value.textContent = short(step[name]);
      fit(value, ROOM.gate);
      fillFrom(step[name]);
      fill.style.fill = name === "g" ? colours.state(step.g) : colours.gate(step[name]);
    }
    for (const [name, label] of Object.entries(this.labels)) label.write(step[name], step);
    this.element.setAttribute("aria-label", description);
  }

  /** Let a pulse run along every wire, stage after stage. */
  flow() {
    this.element.classList.remove("flowing");
    void this.element.getBoundingClientRect(); // the animation begins anew only where the class was gone for a layout
    this.element.classList.add("flowing");
  }
}

function gate({ name, x, activation }) {
  const { width, height, y } = GATE;
  const left = x - width / 2;
  const top = y - height / 2;
  const signed = activation === "tanh";
  const room = height - 12;
  const zero = signed ? y : top + height - 6;
  const fill = svg("rect", { class: "gauge-fill", x: left + 6, width: 6, rx: 1 });
  const value = svg("text", { class: "value", x: x + 7, y: y + 12 });
  return {
    name,
    fill,
    value,
    fillFrom(number) {
      const end = zero - (Number.isFinite(number) ? number : 0) * (signed ? room / 2 : room);
      fill.setAttribute("y", Math.min(zero, end));
      fill.setAttribute("height", Math.abs(zero - end));
    },
    element: svg(
      "g",
      { class: `gate gate-${name}` },
      svg("rect", { class: "gate-box", x: left, y: top, width, height, rx: 6 }),
      svg("rect", { class: "gauge", x: left + 6, y: top + 6, width: 6, height: room, rx: 1 }),
      fill,
      svg("line", { class: "gauge-zero", x1: left + 4, x2: left + 14, y1: zero, y2: zero }),
      svg("text", { class: "activation", x: x + 7, y: y - 7 }, activation),
      value,
      svg("text", { class: "name", x: x + 8, y: top - 8 }, name),
    ),
  };
}

function labels() {
  return {
    previousCell: atEdge(4, "start", CELL_LINE, (step) => ["c", step.previousName]),
    previousHidden: atEdge(4, "start", HIDDEN_LINE, (step) => ["h", step.previousName]),
    c: atEdge(WIDTH - 4, "end", CELL_LINE, () => ["c", "t"]),
    h: atEdge(WIDTH - 4, "end", HIDDEN_LINE, ({ projected }) => (projected ? ["o·tanh(c)", ""] : ["h", "t"])),
    kept: between(188, CELL_LINE - 14, "middle", "f·c = "),
    written: between(275, 102, "start", "i·g = "),
    tanh: between(391, 135, "end", ""),
    input: input(),
  };
}

function atEdge(x, anchor, line, name) {
  const symbol = svg("text", { class: "name", x, y: line - 12, "text-anchor": anchor });
  const value = svg("text", { class: "value", x, y: line + 22, "text-anchor": anchor });
  return {
    element: svg("g", {}, symbol, value),
    write(number, step) {
      const [letter, index] = name(step);
      symbol.replaceChildren(letter, svg("tspan", { class: "index", dy: 4 }, index));
      value.textContent = short(number);
    },
  };
}

function between(x, y, anchor, prefix) {
  const value = svg("tspan", { class: "value" });
  const element = svg("text", { class: "aside", x, y, "text-anchor": anchor }, prefix, value);
  return {
    element,
    write(number) {
      value.textContent = short(number);
      fit(value, ROOM.aside);
    },
  };
}

/** Make a long number small enough for its room. */
function fit(value, room) {
  value.style.fontSize = `${Math.min(FONT, room / (CHARACTER * value.textContent.length))}px`;
}

function input() {
  const value = svg("tspan", { class: "value", dy: -4 });
  const symbol = ["x", svg("tspan", { class: "index", dy: 4 }, "t")];
  return {
    element: svg("text", { class: "name", x: 94, y: HEIGHT - 18 }, ...symbol, " ", value),
    write(text) {
      value.textContent = text;
    },
  };
}

function operation({ sign, x, y }) {
  return svg("g", {}, svg("circle", { class: "operation", cx: x, cy: y, r: 11 }), svg("text", { class: "sign", x, y: y + 5.5 }, sign));
}

function arrow(y) {
  return svg("path", { class: "arrow", d: `M${WIDTH - 10} ${y - 6}L${WIDTH - 1} ${y}L${WIDTH - 10} ${y + 6}Z` });
}
