// Tokens as they can be seen.

/**
 * White space made visible.
 * @param {string} token
 * @returns {string}
 */
export function visible(token) {
  if (token === " ") return "␣";
  return token.replaceAll("\n", "⏎").replaceAll("\t", "⇥");
}
