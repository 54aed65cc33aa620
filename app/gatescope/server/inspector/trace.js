// A stored trace: computed once by the server, fetched in the parts that are looked at.

import { cellOf } from "./signals.js";

const EXPLAIN_BYTES = 16 * 1024; // about what a walk-through takes
const CACHE_BYTES = 256 * 1024 * 1024;

/** A stored trace; what was fetched is kept, the part that was not looked at for longest goes first. */
export class Trace {
  #api;
  #cache = new Map(); // what was asked for -> {reply, bytes}, the one asked for last stands last
  #bytes = 0;
  #renewal = null;

  /**
   * Have a request traced and stored.
   * @param {import("./api.js").Api} api
   * @param {object} info ModelInfo
   * @param {object} body a predict body
   * @param {AbortSignal} signal
   * @returns {Promise<Trace>}
   */
  static async create(api, info, body, signal) {
    const stored = await api.post("/v1/traces", { ...body, model: info.name, version: info.version }, { signal });
    return Trace.open(api, info, stored.trace_id, body, signal);
  }

  /** A trace that is stored already. @returns {Promise<Trace>} */
  static async open(api, info, id, body, signal) {
    return new Trace(api, info, id, await api.get(`/v1/traces/${encodeURIComponent(id)}`, { signal }), body);
  }

  constructor(api, info, id, meta, body) {
    this.#api = api;
    const { cell, signals } = cellOf(info, meta.module);
    /** The name of the cell, such as "lstm". */
    this.cell = cell;
    /** Its signals, in its order. @type {import("./signals.js").Signal[]} */
    this.signals = signals;
    /** Its id on the server. */
    this.id = id;
    /** The trace reply without its signals. */
    this.meta = meta;
    /** The predict body behind it; null where only the id is known. */
    this.request = body;
    /** What a model of features read: [sequence][time][feature]; null for tokens, and where the LSTM has steps of its own. */
    this.inputs = meta.inputs ?? null;
    /** How many of the last steps of each sequence read the model's own predictions. */
    this.horizon = meta.horizon ?? 0;
    /** The states that it began with, by name; those of the module that is traced where the model has several. */
    this.initialState = meta.initial_state.modules?.[meta.module] ?? meta.initial_state;
  }

  /** @returns {number} how many time steps a sequence has, those of the horizon included */
  length(sequence) {
    return this.meta.sequence_lengths[sequence];
  }

  /** @returns {boolean} whether its time steps are those of what the model read */
  isAligned(sequence) {
    return (this.meta.tokens ?? this.inputs)?.[sequence].length === this.length(sequence);
  }

  /** @returns {number} how many units a signal has: a projected hidden state has fewer than the cell */
  width(name) {
    return this.initialState[name]?.[0][0].length ?? this.meta.units.length;
  }

  /** @returns {boolean} whether a signal is a state, which the next step begins with */
  isState({ name }) {
    return name in this.initialState;
  }

  /** What the units remember: the first of the cell's states. @returns {import("./signals.js").Signal} */
  get memory() {
    return this.signals.find((signal) => this.isState(signal));
  }

  /** Whether the hidden state is a projection of all units: it has fewer units than the cell. */
  get isProjected() {
    return this.width("hidden_state") < this.meta.units.length;
  }

  /**
   * A part of one signal, cut into `bins` spans of time.
   * @param {{signal: string, sequence?: number, layer: number, direction: string, units?: [number, number], from?: number,
   *   to?: number, bins?: number, reduce?: "mean"|"min"|"max"}} part `units` from the first up to, not with, the last
   * @returns {Promise<{data: Float32Array, steps: number[], units: number}>} `data` is (span, unit): the value of the
   *   unit u in span s is `data[s * units + u]`; `steps` has the first time step of each span
   */
  async tile({ signal, units = [0, this.width(signal)], ...part }) {
    const { arrays, steps } = await this.#values({ ...part, signals: signal, units: units.join(":") });
    const { data, shape } = arrays[signal];
    return { data, steps, units: shape[4] };
  }

  /**
   * Every signal of one unit over a span of time, by its symbol.
   * @param {{sequence?: number, layer: number, direction: string, unit: number, from?: number, to?: number, bins?: number,
   *   reduce?: "mean"|"min"|"max"}} part
   * @returns {Promise<{[symbol: string]: Float32Array, steps: number[]}>} a hidden state is empty where a projection has left
   *   this unit none
   */
  async unit({ unit, ...part }) {
    const names = this.signals.map(({ name }) => name);
    const { arrays, steps } = await this.#values({ ...part, signals: names.join(), units: unit });
    return { ...Object.fromEntries(this.signals.map(({ symbol, name }) => [symbol, arrays[name].data])), steps };
  }

  /** The walk-through of one unit at one time step. @returns {Promise<object>} an explain reply */
  async explain({ sequence = 0, layer, direction, time_step, unit }) {
    const point = { sequence, layer, direction, time_step, unit };
    const { name, version } = this.meta.model;
    const path = `/v1/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}/explain`;
    return this.#once(JSON.stringify(point), async () => {
      const reply = await this.#stored((id) => this.#api.post(path, { trace_id: id, ...point }));
      return [reply, EXPLAIN_BYTES];
    });
  }

  async #values({ sequence = 0, layer, direction, from = 0, to = null, bins = null, reduce = "mean", signals, units }) {
    const stop = to ?? this.length(sequence);
    const query = new URLSearchParams({ sequence, layers: layer, directions: direction, start: from, stop, units });
    if (signals) query.set("signals", signals);
    if (bins && bins < stop - from) {
      query.set("bins", bins);
      query.set("reduce", reduce);
    }
    return this.#once(query.toString(), async () => {
      const { arrays, metadata } = await this.#stored((id) => this.#api.arrays(`/v1/traces/${encodeURIComponent(id)}/values?${query}`));
      const bytes = Object.values(arrays).reduce((sum, { data }) => sum + data.byteLength, 0);
      return [{ arrays, steps: metadata.time_steps }, bytes];
    });
  }

  /** Read from the stored trace; one that the server keeps no more is stored again, where the request is known. */
  async #stored(read) {
    const { id } = this;
    try {
      return await read(id);
    } catch (error) {
      if (error.title !== "TraceNotFound" || !this.request) throw error;
      if (this.id === id) this.#renewal ??= this.#renew();
      await this.#renewal;
      return read(this.id);
    }
  }

  async #renew() {
    try {
      const { name, version } = this.meta.model;
      this.id = (await this.#api.post("/v1/traces", { ...this.request, model: name, version })).trace_id;
    } finally {
      this.#renewal = null;
    }
  }

  /** What a function answers; asked again, the same without calling it, also while it is under way. */
  #once(key, ask) {
    const kept = this.#cache.get(key) ?? { reply: null, bytes: 0 };
    this.#cache.delete(key);
    this.#cache.set(key, kept);
    kept.reply ??= ask().then(
      ([reply, bytes]) => {
        kept.bytes = bytes;
        this.#bytes += bytes;
        this.#trim();
        return reply;
      },
      (error) => {
        this.#cache.delete(key);
        throw error;
      },
    );
    return kept.reply;
  }

  #trim() {
    for (const [key, { bytes }] of this.#cache) {
      if (this.#bytes <= CACHE_BYTES) return;
      this.#bytes -= bytes;
      this.#cache.delete(key);
    }
  }
}
