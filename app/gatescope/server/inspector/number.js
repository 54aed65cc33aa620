// Numbers as people read them, with a minus sign that is one.

/**
 * A number in little room: two decimals where they say enough, two digits where they do not.
 * @param {number|null|undefined} value
 * @returns {string} "–" where there is none
 */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3) return signed(value.toExponential(0).replace("e-", "e−"));
  if (size < 0.1) return signed(value.toFixed(3));
  if (size < 100) return signed(value.toFixed(2));
  return signed(size < 1e6 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : value.toExponential(1));
}

/**
 * A number with four significant digits, as the API's formulas write it, or with fewer.
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
  return signed(String(Number(value.toPrecision(digits))));
}

/**
 * A number as a factor or a further term: in brackets where it is negative.
 * @param {number} value
 * @param {(value: number) => string} [write]
 */
export function factor(value, write = short) {
  return value < 0 ? `(${write(value)})` : write(value);
}

function signed(text) {
  return text.replace(/^-/, "−");
}
