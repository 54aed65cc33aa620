// What the model is given: one of its examples, or one's own text or numbers, edited in place.

import { html } from "./dom.js";
import { Problem } from "./api.js";
import { ReadingError, fromFile, fromText, numbersOf, sliced } from "./reading.js";
import { asText, ofSequence, replaced, staticOf, withStatic } from "./sequence.js";
import { leftOut, noteOf, verification } from "./verified.js";

const EDITABLE = 200_000; // characters that a text field can take without getting slow

/**
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 */
export function mount(element, page) {
  const view = new Input(page);
  element.append(view.element);
  page.on("model", () => view.offer());
  page.on("trace", () => view.show());
  page.state.on(["sequence"], () => view.show());
}

class Input {
  #page;
  #file = null; // what was read from a file, where it is too long to be edited
  #isLong = false; // whether what is traced is too long to stand in the field, and nothing was typed in its place

  constructor(page) {
    this.#page = page;
    const { state } = page;
    this.model = html("select", { onchange: () => this.#choose({ model: this.model.value, version: null }) });
    this.version = html("select", { onchange: () => this.#choose({ model: page.info.name, version: this.version.value || null }) });
    this.example = html("select", { onchange: () => this.#useExample() });
    this.about = html("p", { class: "hint" });
    this.notes = html("div", { class: "notes" });
    this.static = html("input", { type: "text", id: "static", spellcheck: "false", autocomplete: "off", oninput: () => this.#say(""), onkeydown: (event) => this.#key(event) });
    this.staticLabel = html("label", { for: "static" });
    this.area = html("textarea", { id: "values", spellcheck: "false", autocomplete: "off", oninput: () => this.#edited(), onkeydown: (event) => this.#key(event) });
    this.areaLabel = html("label", { for: "values" }, "Input");
    this.steps = html("input", { type: "text", placeholder: "all", size: 10, pattern: "\\s*-?\\d*\\s*:\\s*-?\\d*\\s*", title: "a slice such as 0:500", onkeydown: (event) => this.#key(event) });
    this.run = html("button", { type: "button", class: "primary", onclick: () => this.apply() }, "Show the gates");
    this.file = html("input", { type: "file", id: "file", accept: ".csv,.json,.npy,.txt", onchange: () => this.#open(this.file.files[0]) });
    this.wrong = html("p", { class: "wrong", role: "alert" });
    this.element = html(
      "div",
      { class: "input", ondragover: (event) => this.#drag(event, true), ondragleave: (event) => this.#drag(event, false), ondrop: (event) => this.#drop(event) },
      html("div", { class: "row" }, html("label", {}, "Model ", this.model), html("label", {}, "Version ", this.version)),
      this.about,
      this.notes,
      html("label", {}, "Example ", this.example),
      html("div", { class: "field" }, this.areaLabel, this.area),
      html("div", { class: "field" }, this.staticLabel, this.static),
      html("div", { class: "row" }, html("label", {}, "Steps of it ", this.steps), this.run),
      this.wrong,
      html("div", { class: "drop" }, html("label", { for: "file" }, "Drop a .csv, .json, .npy or .txt file, or choose one"), this.file),
    );
  }

  /** The models, and what the chosen one brings. */
  offer() {
    const { models, info, state } = this.#page;
    this.#file = null;
    const option = (value, text, disabled = false) => html("option", { value, disabled }, text);
    this.model.replaceChildren(...models.map(({ name, state: its }) => option(name, its === "ready" ? name : `${name} (${its})`, its !== "ready")));
    this.model.value = info.name;
    this.version.replaceChildren(option("", `newest (${info.version})`), ...info.versions.map((version) => option(version, version)));
    this.version.value = state.get().version ?? "";
    this.version.parentElement.hidden = info.versions.length < 2;
    this.about.textContent = info.description ?? "";
    const notes = [verification(info), ...leftOut(info)].filter(Boolean);
    this.notes.replaceChildren(...notes.map(noteOf));
    this.notes.hidden = notes.length === 0;
    this.example.replaceChildren(option("", "your own"), ...info.examples.map(({ title }, index) => option(index, title)));
    this.example.parentElement.hidden = info.examples.length === 0;
    this.area.classList.toggle("words", info.input.text);
    this.areaLabel.textContent = this.#wanted();
    this.static.parentElement.hidden = !info.static;
    this.staticLabel.textContent = `Once for the sequence: ${info.static?.feature_names.join(", ")}`;
    document.title = `${info.name} · Gatescope`;
  }

  #wanted() {
    const { input, lstm } = this.#page.info;
    if (input.text) return "Text";
    if (input.kind === "tokens") return "Token ids, separated by spaces or commas";
    return `One line for each time step: ${input.feature_names?.join(", ") ?? `${lstm.input_size} numbers`}`;
  }

  /** What is traced now, to be edited. */
  show() {
    const { info, state } = this.#page;
    if (!info) return;
    const { request, sequence, trace } = state.get();
    this.example.value = request && !("example" in request) ? "" : (request?.example ?? (trace ? "" : 0));
    const body = this.#body();
    this.#isLong = false;
    this.static.value = (body ? staticOf(body, sequence, info) : (this.#page.trace?.meta.static_inputs?.[sequence] ?? [])).join(", ");
    if (!body) {
      this.area.value = "";
      this.area.placeholder = trace ? "The link names a stored trace. What you type or paste here replaces it." : "";
      return;
    }
    const text = asText(ofSequence(body, sequence, info), info);
    this.#isLong = text.length > EDITABLE;
    this.area.value = this.#isLong ? "" : text;
    this.area.placeholder = !this.#isLong ? "" : `${this.#page.trace?.length(sequence).toLocaleString("en") ?? "Many"} steps: too many to be edited here. What you type or paste replaces them.`;
    this.#say("");
  }

  /** Read what stands in the field, and have it traced. */
  apply() {
    this.#attempt(() => {
      const { info, state } = this.#page;
      const typed = this.area.value;
      if (typed === "" && this.#file) this.#use(this.#file);
      else this.#use(this.#isLong ? { sequence: ofSequence(this.#body(), state.get().sequence, info) } : fromText(typed, info));
    });
  }

  #use(given) {
    const { info, state } = this.#page;
    const cut = sliced(given, this.steps.value, info);
    const vector = info.static ? numbersOf(this.static.value, info.static.feature_names) : [];
    const request = cut.body ? withStatic(cut.body, vector, info) : replaced(this.#body(), state.get().sequence, cut.sequence, vector, info);
    state.set({ request, horizon: null, trace: null, from: 0, to: null });
  }

  /** The predict body that is edited; none where only a stored trace's id is known. */
  #body() {
    const { request, trace } = this.#page.state.get();
    return request || !trace ? this.#page.bodyOf(this.#page.info) : undefined;
  }

  #choose(changes) {
    this.steps.value = "";
    this.#page.state.set({ ...changes, request: null, trace: null, horizon: null, module: null, sequence: 0, layer: 0, direction: "forward", unit: 0, time: 0, from: 0, to: null, feature: 0, signal: null });
  }

  #useExample() {
    if (this.example.value === "") return;
    this.steps.value = "";
    this.#page.state.set({ request: { example: Number(this.example.value) }, trace: null, horizon: null, sequence: 0, time: 0, from: 0, to: null });
  }

  #edited() {
    this.#file = null;
    this.#isLong = false;
    this.#say("");
  }

  #key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.target !== this.area)) this.apply();
  }

  #drag(event, over) {
    event.preventDefault();
    this.element.classList.toggle("dropping", over);
  }

  #drop(event) {
    this.#drag(event, false);
    if (event.dataTransfer.files.length) this.#open(event.dataTransfer.files[0]);
  }

  #open(file) {
    if (!file) return;
    this.#attempt(async () => {
      this.#file = await fromFile(file, this.#page.info);
      this.area.value = "";
      this.#use(this.#file);
    });
  }

  async #attempt(action) {
    try {
      await action();
      this.#say("");
    } catch (error) {
      if (!(error instanceof ReadingError) && !(error instanceof Problem)) throw error;
      this.#say(error.message);
    }
  }

  #say(text) {
    this.wrong.textContent = text;
    this.wrong.hidden = text === "";
  }
}
