// Walks the cursor through time: a step at a time, or by itself.

import { html, svg } from "./dom.js";
import { move } from "./walk.js";

const SPEEDS = [0.5, 1, 2, 4, 10, 25]; // steps per second

/** The buttons under the cell; they move the one cursor that every view has. */
export class Player {
  constructor(page) {
    this.page = page;
    this.place = html("output", { class: "player-place" });
    this.slider = html("input", {
      type: "range",
      min: 0,
      value: 0,
      "aria-label": "Time step",
      oninput: () => page.state.set({ time: Number(this.slider.value) }),
    });
    this.play = html("button", { type: "button", class: "player-play", onclick: () => this.toggle() });
    this.speed = html(
      "select",
      { "aria-label": "Speed", onchange: () => this.running && this.start() },
      ...SPEEDS.map((speed) => html("option", { value: speed, selected: speed === 2 }, `${speed} steps/s`)),
    );
    this.element = html(
      "div",
      { class: "player", role: "group", "aria-label": "Walk through time" },
      html(
        "div",
        { class: "player-buttons" },
        step("First step", "M3 3v10M13 3L6 8l7 5z", () => move(page, { time: -Infinity })),
        step("Step back", "M11 3L4 8l7 5z", () => move(page, { time: -1 })),
        this.play,
        step("Step forward", "M5 3l7 5-7 5z", () => move(page, { time: 1 })),
        step("Last step", "M13 3v10M3 3l7 5-7 5z", () => move(page, { time: Infinity })),
        this.speed,
      ),
      this.place,
      this.slider,
    );
    page.on("trace", () => this.stop());
    this.label();
  }

  /** Steps of the sequence in view. */
  get length() {
    return this.page.trace.length(this.page.state.get().sequence);
  }

  /** Show where the cursor is. */
  show() {
    const { time, sequence } = this.page.state.get();
    const token = this.page.trace.meta.tokens?.[sequence]?.[time];
    this.slider.max = this.length - 1;
    this.slider.value = time;
    this.place.textContent = `time step ${time}, of 0 to ${this.length - 1}` + (token === undefined ? "" : ` · ${JSON.stringify(token)}`);
  }

  toggle() {
    if (this.running) this.stop();
    else this.start();
  }

  /** Walk on in the order in which the direction reads; from its first step again where the cursor is at its last. */
  start() {
    clearInterval(this.running);
    const { direction, time } = this.page.state.get();
    const ahead = direction === "reverse" ? -1 : 1;
    const [first, last] = ahead > 0 ? [0, this.length - 1] : [this.length - 1, 0];
    if (time === last) this.page.state.set({ time: first });
    this.running = setInterval(
      () => {
        if (this.page.state.get().time === last) this.stop();
        else move(this.page, { time: ahead });
      },
      1000 / Number(this.speed.value),
    );
    this.label();
  }

  stop() {
    clearInterval(this.running);
    this.running = null;
    this.label();
  }

  label() {
    this.play.textContent = this.running ? "Pause" : "Play";
  }
}

function step(name, path, onclick) {
  const sign = svg("svg", { class: "player-sign", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: path }));
  return html("button", { type: "button", "aria-label": name, title: name, onclick }, sign);
}
