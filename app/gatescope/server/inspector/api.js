// The HTTP API as this page uses it: JSON and safetensors in, problems as messages.

const SAFETENSORS = "application/vnd.safetensors";
const KEY = "gatescope-key"; // in the tab's own storage: gone when it is closed

/** What the API refused, and where: the fields of application/problem+json. */
export class Problem extends Error {
  /** @param {{title: string, status: number, detail?: string, errors?: {loc: (string|number)[], msg: string}[]}} problem */
  constructor({ title, status, detail, errors = [] }) {
    super(detail ?? title);
    Object.assign(this, { title, status, detail, errors });
  }
}

/** Requests to the server that this page came from. */
export class Api {
  /** Called with nothing when a key is needed; its promise is fulfilled when there is one to try. */
  askForKey = null;
  /** Called with the number of requests that are under way, whenever it changes. */
  onBusy = () => {};
  #busy = 0;

  /** The key that is sent with every request; null where there is none. */
  get key() {
    return window.sessionStorage.getItem(KEY);
  }

  set key(key) {
    window.sessionStorage.setItem(KEY, key);
  }

  /** @returns {Promise<any>} a JSON reply */
  async get(path, options = {}) {
    return (await this.#send(path, options)).json();
  }

  /** @returns {Promise<any>} the JSON reply to a JSON body */
  async post(path, body, options = {}) {
    const headers = { "Content-Type": "application/json" };
    return (await this.#send(path, { ...options, method: "POST", headers, body: JSON.stringify(body) })).json();
  }

  /** @returns {Promise<{arrays: Object<string, {data: Float32Array, shape: number[]}>, metadata: Object<string, any>}>} */
  async arrays(path, options = {}) {
    const reply = await this.#send(path, { ...options, headers: { Accept: SAFETENSORS } });
    return safetensors(await reply.arrayBuffer());
  }

  async #send(path, options) {
    this.onBusy((this.#busy += 1));
    try {
      const reply = await this.#fetch(path, options);
      if (reply.status !== 401 || !this.askForKey) return await checked(reply);
      await this.askForKey();
    } finally {
      this.onBusy((this.#busy -= 1));
    }
    return this.#send(path, options);
  }

  async #fetch(path, { headers = {}, ...options }) {
    const key = this.key ? { "X-API-Key": this.key } : {};
    try {
      return await fetch(path, { ...options, headers: { ...headers, ...key } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem({ title: "No connection", status: 0, detail: "The server cannot be reached. Is it still running?" });
    }
  }
}

async function checked(reply) {
  if (reply.ok) return reply;
  const text = await reply.text();
  try {
    throw new Problem(JSON.parse(text));
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem({ title: reply.statusText || "Error", status: reply.status, detail: text.slice(0, 300) });
  }
}

/**
 * A safetensors file: its tensors, not copied where they are aligned, and its metadata.
 * @param {ArrayBuffer} buffer
 */
export function safetensors(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const { __metadata__: texts = {}, ...tensors } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const arrays = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, array(buffer, 8 + size, tensor)]));
  const metadata = Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, JSON.parse(text)]));
  return { arrays, metadata };
}

function array(buffer, base, { dtype, shape, data_offsets: [start, stop] }) {
  const kinds = { F32: Float32Array, I64: BigInt64Array };
  const bytes = (base + start) % kinds[dtype].BYTES_PER_ELEMENT ? buffer.slice(base + start, base + stop) : buffer;
  const offset = bytes === buffer ? base + start : 0;
  return { data: new kinds[dtype](bytes, offset, (stop - start) / kinds[dtype].BYTES_PER_ELEMENT), shape };
}
