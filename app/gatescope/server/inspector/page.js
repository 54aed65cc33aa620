// What every view gets: the state, the API, the model, its trace, and word of their changes.

import { Api } from "./api.js";
import { Colours } from "./colours.js";
import { State } from "./state.js";

const THEME = "gatescope-theme"; // "light" or "dark" where it was chosen, else the system's

/** The page as its views know it. */
export class Page {
  #listeners = { model: [], trace: [], theme: [] };
  #system = window.matchMedia("(prefers-color-scheme: dark)");

  constructor() {
    /** What is looked at. */
    this.state = new State();
    this.api = new Api();
    /** ModelInfo of every model. */
    this.models = [];
    /** ModelInfo of the model that is looked at; null until it is known. */
    this.info = null;
    /** The version that the state asked for when `info` was fetched. */
    this.asked = undefined;
    /** The stored trace; null until there is one. */
    this.trace = null;
    /** Its units in the order in which they are shown; null until that is known. @type {number[]|null} */
    this.order = null;
    this.#system.addEventListener("change", () => this.#retheme());
    this.#retheme();
  }

  /**
   * @param {"model"|"trace"|"theme"} event there is a new one
   * @param {() => void} listener
   */
  on(event, listener) {
    this.#listeners[event].push(listener);
  }

  /** @param {"model"|"trace"|"theme"} event */
  emit(event) {
    for (const listener of this.#listeners[event]) listener();
  }

  /**
   * @param {object} info ModelInfo
   * @returns {object|undefined} the predict body that the state asks for: the first example where it says nothing
   */
  bodyOf(info) {
    const { request } = this.state.get();
    return request && !("example" in request) ? request : info.examples[request?.example ?? 0]?.request;
  }

  /** Light becomes dark, and dark light. */
  switchTheme() {
    window.localStorage.setItem(THEME, this.theme === "dark" ? "light" : "dark");
    this.#retheme();
  }

  #retheme() {
    /** @type {"light"|"dark"} */
    this.theme = window.localStorage.getItem(THEME) ?? (this.#system.matches ? "dark" : "light");
    this.colours = new Colours(this.theme);
    document.documentElement.dataset.theme = this.theme;
    this.emit("theme");
  }
}
