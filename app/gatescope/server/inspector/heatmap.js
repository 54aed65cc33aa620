// Units × time in colours.

/** A tile of one signal, its units in some order. */
export class Heatmap {
  #tile;

  /**
   * @param {{data: Float32Array, steps: number[], units: number}} tile (span, unit)
   * @param {number[]} order the units from the top
   * @param {{low: number, high: number}} range the values with the first and the last colour
   * @param {"sequential"|"diverging"} kind of colour scale
   */
  constructor(tile, order, range, kind) {
    this.#tile = tile;
    this.order = order;
    this.range = range;
    this.kind = kind;
  }

  /** @returns {number[]} the first time step of each span */
  get steps() {
    return this.#tile.steps;
  }

  /** Draw it into a rectangle; of more units than it has pixels, neighbours are averaged. */
  draw(context, { x, y, width, height }, colours) {
    const rows = Math.min(this.order.length, Math.floor(height * window.devicePixelRatio));
    const columns = this.steps.length;
    const picture = new ImageData(columns, rows);
    this.#fill(new Uint32Array(picture.data.buffer), rows, colours.pixels(this.kind));
    const drawn = new OffscreenCanvas(columns, rows);
    drawn.getContext("2d").putImageData(picture, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(drawn, x, y, width, height);
  }

  #fill(pixels, rows, colours) {
    const { data, units, steps } = this.#tile;
    const { low, high } = this.range;
    const scale = (colours.length - 1) / (high - low);
    for (let row = 0; row < rows; row += 1) {
      const [first, last] = [row, row + 1].map((place) => Math.floor((place * this.order.length) / rows));
      const members = this.order.slice(first, last);
      for (let span = 0; span < steps.length; span += 1) {
        let sum = 0;
        for (const unit of members) sum += data[span * units + unit];
        const place = (sum / members.length - low) * scale;
        if (place === place) pixels[row * steps.length + span] = colours[place < 0 ? 0 : place > 255 ? 255 : (place + 0.5) | 0];
      }
    }
  }

  /** @returns {number} the unit at a share of the height */
  unitAt(share) {
    return this.order[Math.max(0, Math.min(this.order.length - 1, Math.floor(share * this.order.length)))];
  }

  /** The value of a unit in the span that a time step lies in, and that span's first and last step. */
  valueAt(unit, time, stop) {
    const { data, units, steps } = this.#tile;
    const span = spanOf(steps, time);
    const last = (steps[span + 1] ?? stop) - 1;
    return { value: span >= 0 && unit < units && time <= last ? data[span * units + unit] : NaN, first: steps[span], last };
  }

  /** @returns {number[]} all values of a unit */
  courseOf(unit) {
    const { data, units, steps } = this.#tile;
    return steps.map((_, span) => data[span * units + unit]);
  }
}

/** The last span that begins at or before a time step; −1 where all begin later. */
function spanOf(steps, time) {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
