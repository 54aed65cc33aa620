// The signals of a cell as ModelInfo describes them. No view has a list of its own: another cell has other signals.

/**
 * @typedef {object} Signal
 * @property {string} name such as "forget_gate"
 * @property {string} symbol in the cell's equations, such as "f"
 * @property {number|null} low the least value; null where there is no bound
 * @property {number|null} high the largest value
 * @property {string} description
 */

/**
 * @param {object} info ModelInfo
 * @param {string} module the recurrent module that is traced
 * @returns {{cell: string, signals: Signal[]}} its cell, and the signals in the cell's order that a stored trace keeps
 */
export function cellOf(info, module) {
  const own = info.modules.find(({ name }) => name === module) ?? info;
  const { activation } = own.spec ?? own.lstm;
  const cell = activation ? `${own.cell} of other functions` : own.cell; // the figure and its numbers are PyTorch's
  return { cell, signals: own.signals.filter((signal) => !signal.on_request) };
}

/** @param {Signal} signal @returns {string} its name in words */
export function title({ name }) {
  return name.replaceAll("_", " ");
}

/** @param {Signal} signal @returns {boolean} whether it runs from nothing upwards, as a gate does, and not around 0 */
export function isSequential({ low }) {
  return low !== null && low >= 0;
}

/** @param {Signal} signal @returns {boolean} whether it runs from nothing to all, so that it can be shut or open */
export function isGate(signal) {
  return isSequential(signal) && signal.high !== null;
}
