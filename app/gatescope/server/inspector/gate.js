// What one part of the cell did at this step: its formula, its terms and who contributed most.

import { html } from "./dom.js";
import { factor, precise, short } from "./number.js";
import { title } from "./signals.js";
import { visible } from "./token.js";

const SHOWN = 5; // contributors of each kind

/**
 * @param {import("./signals.js").Signal} signal
 * @param {object} reply the API's walk-through of this step
 * @param {import("./trace.js").Trace} trace which it is of
 * @returns {Node[]} what stands under the figure
 */
export function explained(signal, reply, trace) {
  const body = signal.name in reply.gates ? gate : update;
  return [
    html("h3", {}, capital(title(signal))),
    html("p", { class: "does" }, ...math(capital(signal.description).replaceAll(/_t\b/g, "_{t}")), "."),
    ...body(reply, signal, trace),
    ...read(reply),
  ];
}

/** What was read at this step, in the units of the request. */
function read({ inputs }) {
  if (!inputs) return [];
  const values = Object.entries(inputs).map(([name, value]) => [html("dt", {}, name), html("dd", {}, precise(value))]);
  return [html("h4", {}, ...math("Read at this step, x_{t}")), html("dl", { class: "read" }, ...values.flat())];
}

/** The terms of the equation, of its numbers and of the table are those of the reply, in its order. */
function gate(reply, { name, symbol: part }, trace) {
  const told = reply.gates[name];
  const before = previous(reply);
  const sigma = told.activation === "sigmoid" ? "σ" : told.activation;
  const scale = told.recurrent_scale ? `${symbolOf(trace, told.recurrent_scale.gate)}_{t}·` : "";
  const state = told.state_scale ? `(${symbolOf(trace, told.state_scale)}_{t}⊙h_{${before}})` : `h_{${before}}`;
  const spelled = {
    input_contribution: `W_{i${part}} x_{t}`,
    recurrent_contribution: `${scale}W_{h${part}} ${state}`,
    bias_input: `b_{i${part}}`,
    bias_recurrent: `${scale}b_{h${part}}`,
  };
  const terms = Object.entries(told.terms).map(([term, value]) => [spelled[term], value]);
  return [
    formula(`${part}_{t} = ${sigma}(${terms.map(([term]) => term).join(" + ")})`, "structure"),
    formula(`${part}_{t} = ${told.formula.replace(told.activation, sigma)}`),
    ...acts(reply, name, trace).map((text) => formula(text, "acts")),
    table("What is summed", ["Term", "Value"], [...terms, ["sum", told.sum]]),
    contributors("Largest inputs, from x_{t}", told.largest_inputs, largest(told)),
    contributors(`Largest recurrent, from ${state}${scale && `, which ${scale.slice(0, -1)} scales`}`, told.largest_recurrent, largest(told)),
    ...(name in trace.initialState ? [difference(reply)] : []),
  ];
}

/** The products that a gate stands in, and what it scales of other gates. */
function acts(reply, name, trace) {
  const terms = Object.values(updatesOf(reply)).flatMap((update) => Object.values(update.terms));
  const products = terms
    .filter(({ factors }) => factors.some((each) => each.name === name))
    .map((term) => `${product(term, reply, trace)} = ${term.factors.map(({ value }) => factor(value, precise)).join(" · ")} = ${precise(term.value)}`);
  const scaled = Object.entries(reply.gates)
    .filter(([, { recurrent_scale: scale }]) => scale?.gate === name)
    .map(([other, told]) => {
      const [part, bias] = [symbolOf(trace, other), told.bias_recurrent ?? 0];
      const within = `W_{h${part}} h_{${previous(reply)}}${told.bias_recurrent === null ? "" : ` + b_{h${part}}`}`;
      const inner = factor(told.recurrent_contribution + bias, precise);
      return `${symbolOf(trace, name)}_{t}·(${within}) = ${precise(told.recurrent_scale.value)} · ${inner} = ${precise(told.recurrent_term)}`;
    });
  return [...products, ...scaled];
}

/** The equation of a state of any cell, from its terms; a projected state mixes those of all units. */
function update(reply, { name, symbol }, trace) {
  const told = updatesOf(reply)[name];
  if (!told) return [];
  const terms = Object.values(told.terms).map((term) => [product(term, reply, trace), term.value]);
  const sum = terms.map(([term]) => term).join(" + ");
  const isProjected = trace.isProjected && name === "hidden_state";
  const [structure, result] = isProjected
    ? [`${symbol}_{t} = W_{${symbol}r}(${sum}), over all units; this unit's part in it is`, sum]
    : [`${symbol}_{t} = ${sum}`, `${symbol}_{t}`];
  return [
    formula(structure, "structure"),
    formula(`${result} = ${told.formula}`),
    ...(terms.length > 1 ? [table("The terms", ["Term", "Value"], [...terms, [result, told.value]])] : []),
    difference(reply),
  ];
}

/** The updates of a walk-through that have terms, by the name of their state. */
function updatesOf(reply) {
  const found = Object.entries(reply).filter(([name, value]) => name.endsWith("_update") && value?.terms);
  return Object.fromEntries(found.map(([name, value]) => [name.replace(/_update$/, "_state"), value]));
}

function product({ factors }, reply, trace) {
  return factors
    .map(({ name, is_previous: isPrevious, function: applied }) => {
      const symbol = `${symbolOf(trace, name)}_{${isPrevious ? previous(reply) : "t"}}`;
      return applied === "complement" ? `(1 − ${symbol})` : applied ? `${applied}(${symbol})` : symbol;
    })
    .join("·");
}

function symbolOf({ signals }, name) {
  return signals.find((signal) => signal.name === name)?.symbol ?? name;
}

function difference({ residual }) {
  return html("p", { class: "residual" }, `Walk-through and trace differ by at most ${precise(residual, 2)}.`);
}

/** The largest single contribution, so that both kinds are drawn to one scale. */
function largest({ largest_inputs: inputs, largest_recurrent: recurrent }) {
  return Math.max(...[...inputs, ...recurrent].map(({ contribution }) => Math.abs(contribution)));
}

function contributors(title, terms, scale) {
  if (!terms.length) return html("p", { class: "none" }, ...math(title), ": none that is not 0.");
  const rows = terms
    .slice(0, SHOWN)
    .map(({ name, value, weight, contribution }) => [name, contribution, `${short(value)} × ${short(weight)}`]);
  return table(title, ["Name", "Contribution", "Value × weight"], rows, scale);
}

/** A table whose second column also stands as bars, to both sides of zero. */
function table(caption, [first, second, ...others], rows, scale = Math.max(...rows.map(([, value]) => Math.abs(value)))) {
  const head = [first, second, ...others].map((name) => html("th", { scope: "col" }, name));
  return html(
    "table",
    { class: "terms" },
    html("caption", {}, ...math(caption)),
    html("thead", {}, html("tr", {}, ...head)),
    html(
      "tbody",
      {},
      ...rows.map(([name, value, ...rest]) =>
        html(
          "tr",
          {},
          html("th", { scope: "row" }, ...broken(math(visible(name)))),
          html("td", {}, bar(value / (scale || 1)), html("span", {}, precise(value, others.length ? 3 : 4))),
          ...rest.map((text) => html("td", {}, text)),
        ),
      ),
    ),
  );
}

function bar(share) {
  const made = html("span", { class: share < 0 ? "bar negative" : "bar", "aria-hidden": "true" });
  made.style.setProperty("--share", Math.abs(share));
  return made;
}

function formula(text, kind = "numbers") {
  return html("p", { class: `formula ${kind}` }, ...math(text));
}

/** A text in which `c_{t}` is c with the index t. */
function math(text) {
  return text.split(/_\{([^}]*)\}/).map((part, index) => (index % 2 ? html("sub", {}, part) : part));
}

/** Long names break behind their underscores. */
function broken(parts) {
  return parts.flatMap((part) =>
    typeof part === "string" ? part.split(/(?<=_)/).flatMap((piece, index) => (index ? [html("wbr"), piece] : [piece])) : [part],
  );
}

/** The step that the direction read before, as an index. */
function previous({ direction }) {
  return direction === "reverse" ? "t+1" : "t−1";
}

export function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}
