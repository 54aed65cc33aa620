// What the charts over time share: one axis for all of them, the cursor on it, and how it is moved.

import { html } from "./dom.js";
import { clamp, move, pan, zoom } from "./walk.js";

/** Left of every chart over time, so that they stand under each other step by step. */
export const GUTTER = 102;
const RIGHT = 8;
const SHORTEST_DRAG = 4; // pixels

/** Where time steps stand: from the pixel `left` on, `width` pixels wide. */
export class TimeAxis {
  constructor({ from, to }, width) {
    Object.assign(this, { from, to, left: GUTTER, width: Math.max(1, width - GUTTER - RIGHT) });
  }

  /** @returns {number} pixels that a step is wide */
  get step() {
    return this.width / (this.to - this.from);
  }

  /** @returns {number} the pixel at which a step begins */
  x(time) {
    return this.left + (time - this.from) * this.step;
  }

  /** @returns {number} the pixel in a step's middle */
  middle(time) {
    return this.x(time + 0.5);
  }

  /** @returns {number} the step at a pixel */
  at(x) {
    return clamp(Math.floor(this.from + (x - this.left) / this.step), this.from, this.to - 1);
  }
}

/** @returns {{from: number, to: number}} the visible time steps */
export function visibleSpan({ state, trace }) {
  const { from, to, sequence } = state.get();
  return { from, to: to ?? trace.length(sequence) };
}

/** A canvas over time with the cursor on it, which the pointer and the keys move. */
export class TimeChart {
  #page;
  #said;
  #dragged = null;

  /**
   * @param {import("./page.js").Page} page
   * @param {{label: string, describe: () => string, point?: (x: number, y: number) => object, hover?: (x: number, y: number) => void}}
   *   views what a screen reader says of it and of the cursor; what else a press at a place sets
   */
  constructor(page, { label, describe, point = () => ({}), hover = () => {} }) {
    this.#page = page;
    this.#said = describe;
    this.canvas = html("canvas", { "aria-hidden": "true" });
    this.cursor = html("div", { class: "cursor" });
    this.selection = html("div", { class: "selection", hidden: true });
    this.marks = html("div", { class: "marks" });
    this.slider = html("div", { class: "plot", role: "slider", tabindex: 0, "aria-label": label, "aria-valuemin": 0, "aria-orientation": "horizontal" }, this.marks, this.selection, this.cursor);
    this.element = html("div", { class: "chart" }, this.canvas, this.slider);
    this.#listen(point, hover);
    new ResizeObserver(() => this.width !== this.element.clientWidth && this.onresize?.()).observe(this.element);
  }

  /** Make room for a picture of this height. @returns {CanvasRenderingContext2D} in the page's pixels, empty */
  begin(height) {
    const scale = window.devicePixelRatio;
    this.width = this.element.clientWidth;
    this.axis = new TimeAxis(visibleSpan(this.#page), this.width);
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.style.height = `${height}px`;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    return context;
  }

  /** @returns {number} into how many spans the visible time is cut, so that each is about a pixel */
  get bins() {
    return Math.max(1, Math.round(this.axis.width * Math.min(window.devicePixelRatio, 1.5)));
  }

  /** Put the cursor where the state has it; nothing is drawn anew. */
  showCursor() {
    if (!this.axis) return;
    const { time, sequence } = this.#page.state.get();
    const shown = time >= this.axis.from && time < this.axis.to;
    this.cursor.hidden = !shown;
    this.cursor.style.width = `${Math.max(1, this.axis.step)}px`;
    this.cursor.style.transform = `translateX(${this.axis.x(time)}px)`;
    this.slider.setAttribute("aria-valuemax", this.#page.trace.length(sequence) - 1);
    this.slider.setAttribute("aria-valuenow", time);
    this.slider.setAttribute("aria-valuetext", this.#said());
  }

  #listen(point, hover) {
    const { state } = this.#page;
    const place = (event) => [event.offsetX, event.offsetY];
    this.slider.addEventListener("pointerdown", (event) => {
      if (!this.#page.trace || event.button !== 0) return;
      this.slider.setPointerCapture(event.pointerId);
      this.slider.focus({ preventScroll: true });
      if (event.shiftKey) this.#dragged = event.offsetX;
      else state.set({ time: this.axis.at(event.offsetX), ...point(...place(event)) });
    });
    this.slider.addEventListener("pointermove", (event) => {
      if (!this.axis) return;
      if (this.#dragged !== null) this.#select(event.offsetX);
      else if (event.buttons === 1) state.set({ time: this.axis.at(event.offsetX) });
      hover(...place(event));
    });
    this.slider.addEventListener("pointerup", (event) => this.#zoomTo(event.offsetX));
    this.slider.addEventListener("pointerleave", () => hover(null, null));
    this.slider.addEventListener("dblclick", () => state.set({ from: 0, to: null }));
    this.slider.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.slider.addEventListener("keydown", (event) => this.#key(event));
  }

  #select(x) {
    const [left, right] = [Math.min(x, this.#dragged), Math.max(x, this.#dragged)];
    this.selection.hidden = false;
    this.selection.style.left = `${left}px`;
    this.selection.style.width = `${right - left}px`;
  }

  #zoomTo(x) {
    if (this.#dragged === null) return;
    const [left, right] = [Math.min(x, this.#dragged), Math.max(x, this.#dragged)];
    this.#dragged = null;
    this.selection.hidden = true;
    if (right - left >= SHORTEST_DRAG) this.#page.state.set({ from: this.axis.at(left), to: this.axis.at(right) + 1 });
  }

  #wheel(event) {
    if (!this.#page.trace) return;
    if (event.ctrlKey) zoom(this.#page, event.deltaY > 0 ? 1.25 : 0.8, this.axis.at(event.offsetX));
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(this.#page, event.deltaX / this.axis.step);
    else return;
    event.preventDefault();
  }

  #key(event) {
    if (!this.#page.trace || event.altKey || event.ctrlKey || event.metaKey) return;
    const far = event.shiftKey ? 10 : 1;
    const { from, to } = visibleSpan(this.#page); // not the axis: a key may come before the picture
    const page = Math.max(1, Math.round((to - from) / 10));
    const keys = {
      ArrowLeft: () => move(this.#page, { time: -far }),
      ArrowRight: () => move(this.#page, { time: far }),
      PageUp: () => move(this.#page, { time: -page }),
      PageDown: () => move(this.#page, { time: page }),
      Home: () => move(this.#page, { time: -Infinity }),
      End: () => move(this.#page, { time: Infinity }),
      ArrowUp: () => move(this.#page, { unit: -far }),
      ArrowDown: () => move(this.#page, { unit: far }),
      "+": () => zoom(this.#page, 0.5),
      "-": () => zoom(this.#page, 2),
      0: () => this.#page.state.set({ from: 0, to: null }),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }
}
