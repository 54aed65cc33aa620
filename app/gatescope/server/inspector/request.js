// The request behind the page, as someone else can send it.

const KEY = "GATESCOPE_KEY"; // the environment variable that the receiver keeps a key in; ours is never written out

/**
 * What gives the numbers that the page shows: a request for a trace, or for a part of a stored one.
 * @typedef {{url: string, body: object|null, row: number, key: boolean}} Described
 *   `body` null: a GET; `row`: the sequence's place in the reply; `key`: whether the server wants one
 */

/**
 * @param {object} page
 * @returns {Described} all signals of the unit in view
 */
export function described({ state, trace, api }) {
  const { sequence, layer, direction, unit } = state.get();
  const { name, version } = trace.meta.model;
  const key = Boolean(api.key);
  if (!trace.request) {
    const query = new URLSearchParams({ sequence, layers: layer, directions: direction, units: unit });
    return { url: `${location.origin}/v1/traces/${encodeURIComponent(trace.id)}/values?${query}`, body: null, row: 0, key };
  }
  const url = `${location.origin}/v1/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}/trace`;
  return { url, body: { ...trace.request, layers: [layer], directions: [direction], units: [unit] }, row: sequence, key };
}

/**
 * @param {Described} request
 * @returns {string} a command for a POSIX shell
 */
export function asCurl({ url, body, key }) {
  const parts = [`curl --fail-with-body ${quoted(url)}`];
  if (key) parts.push(`-H "Authorization: Bearer $${KEY}"`);
  if (body) parts.push("-H 'Content-Type: application/json'", "--data-binary @- <<'JSON'");
  return `${parts.join(" \\\n  ")}\n${body ? `${JSON.stringify(body)}\nJSON\n` : ""}`;
}

/**
 * @param {Described} request
 * @returns {string} a program that needs nothing but Python
 */
export function asPython({ url, body, row, key }) {
  const headers = [
    ...(body ? ['"Content-Type": "application/json"'] : []),
    ...(key ? [`"Authorization": "Bearer " + os.environ["${KEY}"]`] : []),
  ];
  return [
    "import json",
    ...(key ? ["import os"] : []),
    "from urllib.request import Request, urlopen",
    "",
    ...(body ? [`body = r'''${JSON.stringify(body).replaceAll("'", "\\u0027")}'''`] : []),
    `request = Request(${[JSON.stringify(url), ...(body ? ["body.encode()"] : []), `headers={${headers.join(", ")}}`].join(", ")})`,
    "with urlopen(request) as response:",
    "    trace = json.load(response)",
    'for signal, values in trace["signals"].items():  # [batch][layer][direction][time][unit]',
    `    print(signal, [step[0] for step in values[${row}][0][0]])`,
    "",
  ].join("\n");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
