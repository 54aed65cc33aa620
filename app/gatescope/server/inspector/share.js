// What can be taken away: the link, the request behind the page, any chart as a picture or as data.

import { html } from "./dom.js";
import { csv, json, pictured } from "./export.js";
import { asCurl, asPython, described } from "./request.js";

/**
 * The buttons that copy the link and the request.
 * @param {HTMLElement} element
 * @param {import("./page.js").Page} page
 */
export function mount(element, page) {
  const status = html("span", { class: "share-status", role: "status" });
  const copying = (name, text) =>
    html(
      "button",
      {
        type: "button",
        onclick: async () => {
          status.textContent = page.trace ? await copy(text(), name) : "There is nothing to share yet.";
        },
      },
      `Copy ${name}`,
    );
  element.append(
    html(
      "div",
      { class: "share" },
      copying("link", () => page.state.write()),
      copying("as curl", () => asCurl(described(page))),
      copying("as Python", () => asPython(described(page))),
      status,
    ),
  );
}

/**
 * A menu that saves a view's chart.
 * @param {HTMLElement} toolbar
 * @param {() => {canvas?: HTMLCanvasElement, svg?: SVGElement, element?: HTMLElement, data: {columns: string[], rows: any[][]}, name: string}} chart
 * @param {import("./page.js").Page} page
 */
export function exportMenu(toolbar, chart, page) {
  const saved = async (kind, blob) => {
    menu.open = false;
    if (!page.trace) return;
    const made = chart();
    save(await blob(made), `${fileName(page, made.name)}.${kind}`);
  };
  const saving = (kind, blob) => html("button", { type: "button", onclick: () => saved(kind, blob) }, kind.toUpperCase());
  const menu = html(
    "details",
    {
      class: "export",
      onkeydown: (event) => {
        if (event.key === "Escape") menu.open = false;
      },
    },
    html("summary", {}, "Export"),
    html(
      "div",
      { class: "export-kinds" },
      saving("png", pictured),
      saving("csv", (made) => csv(made.data)),
      saving("json", (made) => json(made, provenance(page))),
    ),
  );
  toolbar.append(menu);
}

function provenance({ trace, state }) {
  const { sequence, layer, direction, unit, time } = state.get();
  return {
    link: state.write(),
    model: trace?.meta.model,
    residual: trace?.meta.residual,
    sequence,
    layer,
    direction,
    unit,
    time_step: time,
  };
}

function fileName({ info }, name) {
  return `${info.name}-${name}`.replace(/[^\w.-]+/g, "-");
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  html("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** To the clipboard, or where a page may not write to it, into a dialog to copy from. */
async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
    return `Copied ${name}.`;
  } catch {
    const area = html("textarea", { readonly: true, rows: 12, "aria-label": `Copy ${name}` }, text);
    const said = html("p", {}, "The browser does not let this page copy. Here it is, to be copied by hand:");
    const dialog = html(
      "dialog",
      { class: "share-dialog" },
      said,
      area,
      html("button", { type: "button", onclick: () => dialog.close() }, "Close"),
    );
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    area.select();
    return "";
  }
}
