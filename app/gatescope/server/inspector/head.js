// What one head says: a curve, tags of the time steps, and a table of what stands at the cursor.

import { Curve } from "./curve.js";
import { html } from "./dom.js";
import { percent, short } from "./number.js";
import { after, columnsOf, isQuantity, labelAt, likeliest } from "./predicted.js";
import { classesAt, explain, legend, marked } from "./spans.js";
import { visible } from "./token.js";

const LIKELIEST = 8;
const MOST_LABELS = 40; // of a task that gives several
const TAGS = 256; // words that stand on the page at once
const NOTHING = "–"; // where no label is given

/** The prediction of one head; it has no words of its own where a model writes text. */
export class HeadView {
  constructor(page) {
    this.page = page;
    this.title = html("h3", {});
    this.curve = new Curve(page);
    this.tags = html("div", { class: "tags", role: "group", "aria-label": "Tag of each time step" });
    this.spans = legend();
    this.path = html("p", { class: "hint" }, "The labels are the best path as a whole: a step has no probabilities of its own.");
    this.classes = html("table", { class: "classes" });
    this.element = html("div", { class: "head" }, this.title, this.curve.element, this.tags, this.spans, this.path, this.classes);
  }

  /**
   * @param {import("./predicted.js").Predicted} outcome
   * @param {string} title empty where no other head stands beside
   */
  draw(outcome, title) {
    const { whole, labels, probabilities, kind } = outcome;
    this.outcome = outcome;
    this.title.textContent = title;
    this.title.hidden = title === "";
    this.curve.element.hidden = !isQuantity(outcome) || whole;
    this.tags.hidden = isQuantity(outcome) || whole || kind === "next_token";
    this.path.hidden = !labels || Boolean(probabilities);
    if (whole) this.spans.hidden = true;
    else explain(this.spans, this.page);
    if (!this.curve.element.hidden) this.curve.draw(outcome);
    this.move();
  }

  /** What depends on the cursor. */
  move() {
    const { sequence, time } = this.page.state.get();
    if (!this.curve.element.hidden) this.curve.move();
    if (!this.tags.hidden) this.drawTags(sequence, time);
    this.drawClasses(sequence, time);
  }

  drawTags(sequence, time) {
    const { trace } = this.page;
    const tokens = trace.meta.tokens?.[sequence] ?? Array.from({ length: trace.length(sequence) }, (_, step) => String(step));
    const first = Math.floor(time / TAGS) * TAGS;
    if (this.tagged !== this.outcome.labels || this.firstTag !== first) {
      [this.tagged, this.firstTag] = [this.outcome.labels, first];
      this.tags.replaceChildren(...tokens.slice(first, first + TAGS).map((token, index) => this.tag(token, first + index)));
    }
    this.tags.querySelector("[aria-current]")?.removeAttribute("aria-current");
    this.tags.children[time - first]?.setAttribute("aria-current", "true");
  }

  /** A step with its label, or with those that are given; a label's line is the stronger the likelier it is. */
  tag(token, time) {
    const given = [labelAt(this.outcome, time) ?? []].flat();
    const probabilities = after(this.outcome, time);
    const { labels } = this.outcome.head;
    const shares = given.map((label) => probabilities?.[labels.indexOf(label)]);
    const told = given.map((label, index) => (shares[index] === undefined ? label : `${label}, ${percent(shares[index])}`)).join("; ");
    const shown = given.map((label, index) => likely(html("span", { class: "label" }, label), shares[index]));
    return html(
      "button",
      { type: "button", class: `tag${classesAt(this.page, time)}`, title: `step ${time}${marked(this.page, time)}: ${told || "no label"}`, onclick: () => this.page.state.set({ time }) },
      html("span", { class: "word" }, visible(token)),
      ...(shown.length > 0 ? shown : [html("span", { class: "label nothing" }, NOTHING)]),
    );
  }

  /** The likeliest labels here, or the values of one prediction for the whole sequence. */
  drawClasses(sequence, time) {
    const best = this.best(time);
    const given = this.marked(time);
    const rows = best ? best.map(({ label, probability }) => classRow(label, probability, given.has(label))) : this.wholeRows();
    this.classes.hidden = rows.length === 0;
    const columns = best ? ["Label", "Probability"] : ["Quantity", "Prediction"];
    const head = html("tr", {}, ...columns.map((name) => html("th", { scope: "col" }, name)));
    this.classes.replaceChildren(html("caption", {}, this.caption(sequence, time)), html("thead", {}, head), html("tbody", {}, ...rows));
  }

  best(time) {
    const { head, kind } = this.outcome;
    const probabilities = after(this.outcome, time);
    return probabilities && likeliest(probabilities, head.labels, kind === "multi_label" ? MOST_LABELS : LIKELIEST);
  }

  /** The labels that are given, of a task where those need not be the likeliest. */
  marked(time) {
    return new Set(this.outcome.head.threshold ? [labelAt(this.outcome, time) ?? []].flat() : []);
  }

  wholeRows() {
    if (!isQuantity(this.outcome) || !this.outcome.whole) return [];
    const names = columnsOf(this.outcome);
    return this.outcome.values.map((value, index) => html("tr", {}, html("th", { scope: "row" }, names[index]), html("td", {}, short(value))));
  }

  caption(sequence, time) {
    const { head, kind, whole } = this.outcome;
    const from = head.threshold ? `; given from ${Number((100 * head.threshold).toPrecision(4))}% on` : "";
    if (whole) return `For the whole sequence${from}`;
    const token = this.page.trace.meta.tokens?.[sequence]?.[time];
    const at = `step ${time}` + (token === undefined ? "" : `, “${visible(token)}”`) + marked(this.page, time);
    return kind === "next_token" ? `Expected after ${at}` : `At ${at}${from}`;
  }

  /** The curve where there is one, else the numbers behind tags and table, in this element. */
  chart(element) {
    if (!this.curve.element.hidden) return this.curve.chart();
    return { element, data: this.data(), name: "prediction" };
  }

  data() {
    const { head, whole, first, probabilities, values, labels } = this.outcome;
    if (isQuantity(this.outcome)) return { columns: columnsOf(this.outcome), rows: [values] };
    if (!probabilities) return { columns: ["time_step", "label"], rows: labels.map((label, index) => [first + index, label]) };
    if (whole) return { columns: head.labels, rows: [probabilities] };
    return { columns: ["time_step", ...head.labels], rows: probabilities.map((step, index) => [first + index, ...step]) };
  }
}

function classRow(label, probability, isGiven) {
  const bar = html("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", probability);
  const mark = isGiven ? [html("span", { class: "mark", role: "img", "aria-label": "given" }, "✓")] : [];
  return html(
    "tr",
    { class: isGiven ? "given" : null },
    html("th", { scope: "row" }, visible(label), " ", ...mark),
    html("td", {}, bar, html("span", {}, percent(probability))),
  );
}

/** An element whose line says how likely it is; a plain one where that is not known. */
function likely(element, share) {
  if (share !== undefined) element.style.setProperty("--likely", `${100 * share}%`);
  return element;
}
