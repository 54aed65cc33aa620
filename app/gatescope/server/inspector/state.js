// What is looked at: one object, mirrored into the page's address, from which it is restored.

/** What is not in the address. */
const DEFAULTS = {
  model: null, // its name; null: the first one that is ready
  version: null,
  request: null, // {example: n}, or a predict body
  trace: null, // the id of a stored trace whose request is too long for an address
  sequence: 0,
  layer: 0,
  direction: "forward",
  unit: 0,
  time: 0, // the cursor, a time step
  signal: null, // the one that the overview enlarges; null: all of them
  sort: "unit",
  gate: "forget_gate", // of the scatter
  feature: 0, // the one that is drawn above the signals
  from: 0, // the visible time span, up to but not with `to`; null: to the end
  to: null,
  horizon: null, // null: as the request says
  module: null, // of a model with several LSTMs: the one that is looked at; null: as the request says
};

const NAMES = new Set(["model", "version", "trace", "module"]); // never numbers, even where they look like one
const LONGEST_REQUEST = 100_000; // characters in an address; browsers keep more, mail and chat do not

/** The view's state, and who wants to know of its changes. */
export class State {
  #values;
  #listeners = [];
  #changed = new Set();
  #frame = 0;

  constructor(address = window.location) {
    this.#values = Object.freeze({ ...DEFAULTS, ...read(address) });
  }

  /** @returns {Readonly<Object<string, any>>} the state now */
  get() {
    return this.#values;
  }

  /**
   * Change some of it; listeners hear of it once per animation frame.
   * @param {Object<string, any>} changes
   */
  set(changes) {
    const changed = Object.keys(changes).filter((name) => changes[name] !== this.#values[name]);
    if (changed.length === 0) return;
    this.#values = Object.freeze({ ...this.#values, ...changes });
    for (const name of changed) this.#changed.add(name);
    this.#frame ||= requestAnimationFrame(() => this.#notify());
  }

  /**
   * Call a function when one of these has changed.
   * @param {string[]} names
   * @param {(state: Readonly<Object<string, any>>) => void} listener
   */
  on(names, listener) {
    this.#listeners.push({ names, listener });
  }

  /** @returns {boolean} whether the request is short enough to stand in the address */
  get fits() {
    const { request } = this.#values;
    return !request || "example" in request || JSON.stringify(request).length <= LONGEST_REQUEST;
  }

  #notify() {
    this.#frame = 0;
    const changed = this.#changed;
    this.#changed = new Set();
    this.#writeSoon();
    for (const { names, listener } of this.#listeners) {
      if (names.some((name) => changed.has(name))) listener(this.#values);
    }
  }

  #writing = 0;
  #written = -Infinity; // milliseconds, by performance.now()

  /** At once, unless it was just written: browsers allow some hundred changes in half a minute, and a cursor makes more. */
  #writeSoon() {
    const wait = this.#written + 200 - performance.now();
    if (wait <= 0) {
      this.write();
      return;
    }
    clearTimeout(this.#writing);
    this.#writing = setTimeout(() => this.write(), wait);
  }

  /** @returns {string} the address of this view, written into the browser's bar, too */
  write() {
    clearTimeout(this.#writing);
    const url = new URL(window.location.href);
    url.search = query(this.#values);
    url.hash = this.fits ? fragment(this.#values) : "";
    window.history.replaceState(null, "", url);
    this.#written = performance.now();
    return url.href;
  }
}

function read(address) {
  const found = {};
  for (const [name, text] of new URLSearchParams(address.search)) {
    if (name === "example") found.request = { example: Number(text) };
    else found[name] = NAMES.has(name) || text === "" || Number.isNaN(Number(text)) ? text : Number(text);
  }
  const request = address.hash.startsWith("#request=") ? parsed(address.hash.slice(9)) : null;
  return request ? { ...found, request } : found;
}

function parsed(text) {
  try {
    return JSON.parse(decodeURIComponent(text));
  } catch {
    return null; // a link that was cut in two shows the model's first example
  }
}

function query({ request, ...rest }) {
  const parts = Object.entries(rest).filter(([name, value]) => value !== null && value !== DEFAULTS[name]);
  if (request && "example" in request) parts.push(["example", request.example]);
  return new URLSearchParams(parts).toString();
}

/** The request's own text: what stands behind the # is not sent to the server, so it may be long. */
function fragment({ request }) {
  if (!request || "example" in request) return "";
  return `request=${JSON.stringify(request).replace(/[%"\\^`{|}<>\s]/g, encodeURIComponent)}`;
}
