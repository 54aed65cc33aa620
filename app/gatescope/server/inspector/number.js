// Numbers as people read them, with a minus sign that is one.

/**
 * A number in little room: two decimals where they say enough, two digits where they do not. What is not 1 or −1, the bounds of
 * gates and states, has as many as it takes to tell it from them.
 * @param {number|null|undefined} value
 * @returns {string} "–" where there is none
 */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3) return signed(value.toExponential(0).replace("e-", "e−"));
  if (size < 0.1) return signed(value.toFixed(3));
  if (size < 100) return signed(beside(value, value.toFixed(2)));
  return signed(size < 1e6 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : value.toExponential(1));
}

/**
 * A number with four significant digits, as the API's formulas write it, or with fewer; see `short` for what is nearly 1.
 * @param {number|null|undefined} value
 * @param {number} [digits]
 * @returns {string}
 */
export function precise(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e4 && size < 1e9) return signed(value.toLocaleString("en", { maximumFractionDigits: 0 }));
  if (size < 10 ** -digits || size >= 1e9) return signed(value.toExponential(digits - 1)).replace("e-", "e−");
  return signed(beside(value, String(Number(value.toPrecision(digits)))));
}

/**
 * A share in percent, never one of 0 or 100 that is not reached.
 * @param {number} share
 */
export function percent(share) {
  if (share > 0 && share < 0.0001) return "<0.01%";
  if (share < 1 && share > 0.9999) return ">99.99%";
  const isNearBound = (share > 0 && share < 0.01) || (share < 1 && share >= 0.9995);
  return `${(100 * share).toFixed(isNearBound ? 2 : 1)}%`;
}

/**
 * A number as a factor or a further term: in brackets where it is negative.
 * @param {number} value
 * @param {(value: number) => string} [write]
 */
export function factor(value, write = short) {
  return value < 0 ? `(${write(value)})` : write(value);
}

/** The text of a number, unless that says 1 or −1 of what is neither. */
function beside(value, text) {
  const distance = Math.abs(1 - Math.abs(value));
  return Math.abs(Number(text)) === 1 && distance > 0 ? value.toFixed(Math.ceil(-Math.log10(distance))) : text;
}

function signed(text) {
  return text.replace(/^-/, "−");
}
