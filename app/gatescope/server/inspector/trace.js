// A stored trace: computed once by the server, fetched in the parts that are looked at.

const LETTERS = { i: "input_gate", f: "forget_gate", g: "cell_candidate", o: "output_gate", c: "cell_state", h: "hidden_state" };
const EXPLAIN_BYTES = 16 * 1024; // about what a walk-through takes
const CACHE_BYTES = 256 * 1024 * 1024;

/** The six signals, in their order. */
export const SIGNALS = Object.values(LETTERS);

/** A stored trace; what was fetched is kept, the part that was not looked at for longest goes first. */
export class Trace {
  #api;
  #cache = new Map(); // what was asked for -> {reply, bytes}, the one asked for last stands last
  #bytes = 0;
  #renewal = null;

  /**
   * Have a request traced and stored.
   * @param {import("./api.js").Api} api
   * @param {{name: string, version: string}} model
   * @param {object} body a predict body
   * @param {AbortSignal} signal
   * @returns {Promise<Trace>}
   */
  static async create(api, model, body, signal) {
    const stored = await api.post("/v1/traces", { ...body, model: model.name, version: model.version }, { signal });
    return Trace.open(api, stored.trace_id, body, signal);
  }

  /** A trace that is stored already. @returns {Promise<Trace>} */
  static async open(api, id, body, signal) {
    return new Trace(api, id, await api.get(`/v1/traces/${encodeURIComponent(id)}`, { signal }), body);
  }

  constructor(api, id, meta, body) {
    this.#api = api;
    /** Its id on the server. */
    this.id = id;
    /** The trace reply without its signals. */
    this.meta = meta;
    /** The predict body behind it; null where only the id is known. */
    this.request = body;
    /** What a model of features read: [sequence][time][feature]; null for tokens, and where the LSTM has steps of its own. */
    this.inputs = meta.inputs ?? null;
  }

  /** @returns {number} how many time steps a sequence has, those of the horizon included */
  length(sequence) {
    return this.meta.sequence_lengths[sequence];
  }

  /** @returns {number} how many units a signal has: a projected hidden state has fewer than the cell */
  width(signal) {
    return signal === "hidden_state" ? this.meta.initial_state.hidden_state[0][0].length : this.meta.units.length;
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
   * The six signals of one unit over a span of time, by their letters.
   * @param {{sequence?: number, layer: number, direction: string, unit: number, from?: number, to?: number, bins?: number,
   *   reduce?: "mean"|"min"|"max"}} part
   * @returns {Promise<{i: Float32Array, f: Float32Array, g: Float32Array, o: Float32Array, c: Float32Array, h: Float32Array,
   *   steps: number[]}>} `h` is empty where a projection has left this unit none
   */
  async unit({ unit, ...part }) {
    const { arrays, steps } = await this.#values({ ...part, units: unit });
    return { ...Object.fromEntries(Object.entries(LETTERS).map(([letter, name]) => [letter, arrays[name].data])), steps };
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
