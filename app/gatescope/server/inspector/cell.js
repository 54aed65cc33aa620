// The cell, live: of an LSTM the textbook figure with this step's numbers, of others their values; walked through time.

import { Diagram, PLACES } from "./diagram.js";
import { html } from "./dom.js";
import { capital, explained } from "./gate.js";
import { short } from "./number.js";
import { Player } from "./player.js";
import { isSequential, title } from "./signals.js";
import { spansAt } from "./spans.js";
import { mount as mountSplice } from "./splice.js";
import { stepAt } from "./step.js";
import { move } from "./walk.js";

const EXPLAIN_AFTER = 150; // ms of rest at a step before its walk-through is asked for

/**
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 */
export function mount(element, page) {
  const view = new CellView(page);
  element.append(view.element);
  page.state.on(["time", "unit", "layer", "direction", "sequence", "part"], () => view.draw());
  page.on("trace", () => view.draw());
  page.on("theme", () => view.draw());
  mountSplice(view.spliced, page);
  view.draw();
  return { chart: () => view.chart() };
}

class CellView {
  constructor(page) {
    this.page = page;
    this.diagram = new Diagram();
    this.player = new Player(page);
    this.parts = Object.fromEntries(Object.keys(PLACES).map((part) => [part, this.button(part)]));
    this.where = html("p", { class: "cell-where" });
    this.detail = html("div", { class: "cell-detail" });
    this.spliced = html("div", {});
    this.figure = html("div", { class: "cell-figure" }, this.diagram.element, ...Object.values(this.parts));
    this.values = html("div", { class: "cell-values", role: "group", "aria-label": "Signals at this step" });
    this.element = html(
      "div",
      { class: "cell", onkeydown: (event) => this.walk(event) },
      this.where,
      this.figure,
      this.values,
      this.player.element,
      this.detail,
      this.spliced,
    );
  }

  async draw() {
    const { trace, state } = this.page;
    this.element.hidden = !trace;
    if (!trace) return;
    const where = state.get();
    const drawn = (this.drawn = {});
    const isLSTM = trace.cell === "lstm"; // the figure is its own
    this.figure.hidden = !isLSTM;
    this.values.hidden = isLSTM;
    this.mark(where.part);
    const step = await stepAt(trace, where);
    if (drawn !== this.drawn) return; // the cursor has moved on
    this.step = { ...step, input: this.inputAt(where) };
    const marks = spansAt(this.page, where.time).map(({ kind, name, meaning }) => html("span", { class: `span-key ${kind}` }, `${name}: ${meaning}`));
    this.where.replaceChildren(`Layer ${where.layer}, ${where.direction}, unit ${where.unit} `, ...marks);
    this.player.show();
    if (isLSTM) {
      this.diagram.show(this.step, this.page.colours, described(this.step));
      if (this.shownTime !== where.time) this.diagram.flow();
      this.shownTime = where.time;
    } else this.tell(this.step);
    this.explainSoon(where);
  }

  /** The signal that is explained: the one that was pressed, or of a cell without a figure what it carries on. */
  chosen() {
    const { trace, state } = this.page;
    const pressed = trace.signals.find(({ symbol }) => symbol === state.get().part);
    return pressed ?? (trace.cell === "lstm" ? null : trace.memory);
  }

  /** The values of a cell without a figure; the buttons stay, and with them the focus, while the cell is the same. */
  tell(step) {
    const { trace, colours } = this.page;
    const chosen = this.chosen();
    if (this.toldOf !== trace.signals) {
      this.toldOf = trace.signals;
      this.values.replaceChildren(...trace.signals.map((signal) => this.value(signal)));
    }
    for (const [index, signal] of trace.signals.entries()) {
      const value = step[signal.symbol];
      const button = this.values.children[index];
      button.setAttribute("aria-pressed", String(signal === chosen));
      button.querySelector(".value").textContent = short(value);
      button.style.setProperty("--value", isSequential(signal) ? colours.gate(value / (signal.high ?? Math.max(1, value))) : colours.state(value));
    }
  }

  value(signal) {
    const { state } = this.page;
    const press = () => state.set({ part: state.get().part === signal.symbol ? null : signal.symbol });
    const name = html("span", { class: "name" }, title(signal));
    return html("button", { type: "button", class: "cell-value", title: capital(signal.description), onclick: press }, html("i", {}, signal.symbol), name, html("span", { class: "value" }));
  }

  inputAt({ sequence, time }) {
    const { trace, info } = this.page;
    const token = trace.meta.tokens?.[sequence]?.[time];
    if (token !== undefined) return `= ${JSON.stringify(token)}`;
    const features = info.input.feature_names?.length ?? info.lstm.input_size;
    return features === 1 ? "= 1 feature" : `= ${features} features`;
  }

  explainSoon({ layer, direction, unit, time, sequence }) {
    clearTimeout(this.waiting);
    const { trace } = this.page;
    const signal = this.chosen();
    if (!signal) {
      this.detail.replaceChildren(html("p", { class: "hint" }, "Press a gate, + or × to see its formula and what contributed most."));
      return;
    }
    const drawn = this.drawn;
    this.waiting = setTimeout(async () => {
      try {
        const reply = await trace.explain({ sequence, layer, direction, time_step: time, unit });
        if (drawn === this.drawn) this.detail.replaceChildren(...explained(signal, reply, trace));
      } catch (error) {
        if (drawn === this.drawn) this.detail.replaceChildren(html("p", { class: "problem" }, error.message));
      }
    }, EXPLAIN_AFTER);
  }

  button(part) {
    const made = html("button", { type: "button", class: "cell-part", "aria-pressed": "false" });
    for (const [property, share] of Object.entries({ left: "x", top: "y", width: "width", height: "height" })) {
      made.style[property] = `${100 * PLACES[part][share]}%`;
    }
    made.addEventListener("click", () => {
      const { state } = this.page;
      state.set({ part: state.get().part === part ? null : part });
    });
    return made;
  }

  mark(chosen) {
    const named = Object.fromEntries(this.page.trace.signals.map((signal) => [signal.symbol, capital(title(signal))]));
    for (const [part, button] of Object.entries(this.parts)) {
      button.setAttribute("aria-pressed", String(part === chosen));
      button.setAttribute("aria-label", named[part] ?? part);
      button.title = named[part] ?? part;
    }
  }

  walk(event) {
    if (event.target.matches("input, select, textarea")) return;
    const steps = event.shiftKey ? 10 : 1;
    const moves = {
      ArrowLeft: { time: -steps },
      ArrowRight: { time: steps },
      Home: { time: -Infinity },
      End: { time: Infinity },
      ArrowUp: { unit: -1 },
      ArrowDown: { unit: 1 },
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    move(this.page, moves[event.key]);
  }

  chart() {
    if (this.page.trace.cell !== "lstm") {
      const rows = this.page.trace.signals.map(({ symbol }) => [symbol, this.step[symbol]]);
      return { element: this.values, data: { columns: ["quantity", "value"], rows }, name: "cell" };
    }
    const { time, i, f, g, o, c, h, previousCell, previousHidden, kept, written, tanh } = this.step;
    const rows = Object.entries({
      time,
      i,
      f,
      g,
      o,
      c,
      h,
      "c before": previousCell,
      "h before": previousHidden,
      "f·c": kept,
      "i·g": written,
      "tanh(c)": tanh,
    });
    return { svg: this.diagram.element, data: { columns: ["quantity", "value"], rows }, name: "cell" };
  }
}

function described({ time, previousName, i, f, g, o, c, h, previousCell, projected }) {
  const gates = `forget gate ${short(f)}, input gate ${short(i)}, candidate ${short(g)}, output gate ${short(o)}`;
  const update = `c = ${short(f)} · ${short(previousCell)} + ${short(i)} · ${short(g)} = ${short(c)}`;
  const shown = `${projected ? "o·tanh(c)" : "h"} = ${short(h)}`;
  return `The LSTM cell at step ${time}: ${gates}; ${update} with c at ${previousName} ${short(previousCell)}; ${shown}`;
}
