// The text, coloured by what one unit remembers after each token, and what the model expected next.

import { html } from "./dom.js";
import { short } from "./number.js";
import { after, likeliest, predicted } from "./predicted.js";
import { title } from "./signals.js";
import { classesAt, explain, legend, marked } from "./spans.js";
import { blockAt } from "./step.js";
import { visible } from "./token.js";
import { move } from "./walk.js";

const PAGE = 256; // tokens that stand on the page at once; divides the blocks of a trace
const GUESSES = 5;

/**
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 */
export function mount(element, page) {
  const view = new TextView(page);
  element.append(view.element);
  page.state.on(["unit", "layer", "direction", "sequence"], () => view.draw());
  page.state.on(["time"], () => view.move());
  page.on("trace", () => view.draw());
  page.on("theme", () => view.draw());
  view.draw();
  return { chart: () => view.chart() };
}

class TextView {
  constructor(page) {
    this.page = page;
    this.text = html("div", { class: "text-tokens", role: "group", onkeydown: (event) => this.walk(event) });
    this.earlier = html("button", { type: "button", onclick: () => this.turn(-1) }, "Earlier");
    this.later = html("button", { type: "button", onclick: () => this.turn(1) }, "Later");
    this.range = html("span", { class: "text-range" });
    this.pages = html("div", { class: "text-pages" }, this.earlier, this.range, this.later);
    this.unknown = html("ul", {});
    this.notes = html("div", { class: "note text-notes", role: "note" }, html("p", {}, "Tokens that the model does not know:"), this.unknown);
    this.guess = html("input", { type: "checkbox", checked: true, onchange: () => this.draw() });
    this.guessing = html("label", { class: "text-guessing" }, this.guess, `${GUESSES} likeliest next tokens`);
    this.legend = html("p", { class: "text-legend" });
    this.spans = legend();
    this.element = html("div", { class: "text" }, html("div", { class: "text-bar" }, this.legend, this.guessing), this.text, this.pages, this.spans, this.notes);
  }

  async draw() {
    const { trace, state, info } = this.page;
    const where = state.get();
    const tokens = trace?.meta.tokens?.[where.sequence];
    this.element.closest("section").hidden = !tokens;
    if (!tokens) return;
    const drawn = (this.drawn = {});
    const length = trace.length(where.sequence);
    const first = Math.floor(where.time / PAGE) * PAGE;
    const { symbol } = (this.memory = trace.memory);
    const block = await blockAt(trace, where, first);
    if (drawn !== this.drawn) return;
    const outcome = predicted(trace.meta, info, where.sequence, length);
    this.drawNotes(where.sequence);
    this.guessing.hidden = outcome?.kind !== "next_token";
    this.tokens = tokens
      .slice(first, first + PAGE)
      .map((token, index) => ({ time: first + index, token, value: block[symbol][first + index - block.from] }));
    this.first = first;
    this.buttons = this.tokens.map((shown) =>
      this.button(shown, !this.guessing.hidden && this.guess.checked ? outcome : null, tokens[shown.time + 1]),
    );
    this.text.replaceChildren(...this.buttons);
    this.text.classList.toggle(
      "words",
      tokens.some((token) => token.length > 1),
    );
    this.text.setAttribute("aria-label", `Text coloured by the ${title(this.memory)} of unit ${where.unit}, layer ${where.layer}, ${where.direction}`);
    this.legend.replaceChildren(`${this.named(symbol)} of unit ${where.unit}: `, ...[-1, -0.5, 0, 0.5, 1].map((value) => this.swatch(value)));
    explain(this.spans, this.page);
    this.pages.hidden = length <= PAGE;
    this.range.textContent = `tokens ${first} to ${first + this.tokens.length - 1} of ${length}`;
    [this.earlier.disabled, this.later.disabled] = [first === 0, first + PAGE >= length];
    this.current = null;
    this.move();
  }

  /** Which tokens of this sequence the model does not know, and what they were read as. */
  drawNotes(sequence) {
    const notes = (this.page.trace.meta.notes ?? []).filter(({ code }) => code === "unknown_token").map(({ message, loc }) => ({ message, ...place(loc) }));
    const own = notes.filter(({ row }) => row === null || row === sequence);
    this.readAs = new Map(own.filter(({ row }) => row !== null).map(({ step, message }) => [step, message]));
    this.unknown.replaceChildren(...own.map(({ step, message }) => html("li", {}, step === null ? message : `step ${step}: ${message}`)));
    this.notes.hidden = own.length === 0;
  }

  move() {
    const { trace, state } = this.page;
    if (!trace || !this.buttons?.length) return;
    const { time } = state.get();
    if (time < this.first || time >= this.first + PAGE) {
      this.draw();
      return;
    }
    this.current?.removeAttribute("aria-current");
    this.current?.setAttribute("tabindex", -1);
    this.current = this.buttons[time - this.first];
    this.current?.setAttribute("aria-current", "true");
    this.current?.setAttribute("tabindex", 0);
    if (this.text.contains(document.activeElement)) this.current?.focus();
  }

  /** What stands for a value, or its name, in the colours: tanh of what has no bounds, else the value itself. */
  coloured(value) {
    return this.memory.low === null ? Math.tanh(value) : value / Math.max(-this.memory.low, this.memory.high);
  }

  named(name) {
    return this.memory.low === null ? `tanh(${name})` : name;
  }

  button({ time, token, value }, outcome, next) {
    const share = this.coloured(value);
    const glyph = html("span", { class: "glyph" }, visible(token));
    glyph.style.background = this.page.colours.state(share);
    glyph.style.color = this.page.colours.on(glyph.style.background);
    const expected = outcome && after(outcome, time);
    const guesses = expected ? likeliest(expected, this.page.info.output.labels, GUESSES) : [];
    const unknown = this.readAs.get(time);
    const told = guesses.map(({ label, probability }) => `${visible(label)} ${short(probability)}`).join(", ");
    return html(
      "button",
      {
        type: "button",
        class: `token${token === "\n" ? " line-end" : ""}${unknown ? " unknown" : ""}${classesAt(this.page, time)}`,
        tabindex: -1,
        title: `step ${time}${marked(this.page, time)}: ${this.read(value)}${told && `\nnext: ${told}`}${unknown ? `\n${unknown}` : ""}`,
        onclick: () => this.page.state.set({ time }),
      },
      glyph,
      ...guesses.map((guess) => this.guessed(guess, guess.label === next)),
    );
  }

  read(value) {
    const { symbol, low } = this.memory;
    const own = `${symbol} = ${short(value)}`;
    return low === null ? `${own}, tanh(${symbol}) = ${short(this.coloured(value))}` : own;
  }

  guessed({ label, probability }, came) {
    const made = html("span", { class: came ? "guess came" : "guess", "aria-hidden": "true" }, visible(label));
    made.style.setProperty("--likely", `${Math.round(100 * probability)}%`);
    return made;
  }

  swatch(value) {
    const made = html("span", { class: "swatch" }, short(value));
    made.style.background = this.page.colours.state(value);
    made.style.color = this.page.colours.on(made.style.background);
    return made;
  }

  turn(pages) {
    move(this.page, { time: this.first + pages * PAGE - this.page.state.get().time });
  }

  walk(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    move(this.page, { time: moves[event.key] });
  }

  chart() {
    const { name, low } = this.memory;
    const rows = this.tokens.map(({ time, token, value }) => [time, token, value, ...(low === null ? [this.coloured(value)] : [])]);
    const columns = ["time_step", "token", name, ...(low === null ? [this.named(name)] : [])];
    return { element: this.text, data: { columns, rows }, name: "text" };
  }
}

/** Which token of which sequence a note is about, by its place in the body: of a lone text, or of one of several. */
function place(loc) {
  const [row, step] = loc?.length === 4 ? loc.slice(2) : [loc ? 0 : null, loc?.[2] ?? null];
  return { row, step };
}
