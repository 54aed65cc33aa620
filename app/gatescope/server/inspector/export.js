// A chart as a file: PNG, CSV or JSON.

import { html } from "./dom.js";

const SCALE = 2; // pixels of a picture per pixel of the page
const STYLES = [
  "fill",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-linecap",
  "opacity",
  "font-family",
  "font-size",
  "font-style",
  "font-weight",
  "text-anchor",
  "visibility",
  "display",
];

/**
 * @param {{columns: string[], rows: any[][]}} data
 * @returns {Blob}
 */
export function csv({ columns, rows }) {
  const lines = [columns, ...rows].map((row) => row.map(field).join(","));
  return new Blob([lines.join("\r\n"), "\r\n"], { type: "text/csv" });
}

/**
 * @param {{name: string, data: {columns: string[], rows: any[][]}}} chart
 * @param {object} provenance where the numbers come from
 * @returns {Blob}
 */
export function json({ name, data }, provenance) {
  return new Blob([JSON.stringify({ chart: name, ...provenance, ...data })], { type: "application/json" });
}

/**
 * @param {{canvas?: HTMLCanvasElement, svg?: SVGElement, element?: HTMLElement}} chart one of the three
 * @returns {Promise<Blob>} a PNG
 */
export async function pictured({ canvas, svg, element }) {
  const drawn = canvas ?? (svg ? await rastered(svg) : painted(element));
  return new Promise((resolve) => drawn.toBlob(resolve, "image/png"));
}

/** A drawing as a canvas, on the page's own background. */
async function rastered(svg) {
  const { width, height } = svg.getBoundingClientRect();
  const copy = svg.cloneNode(true);
  copy.setAttribute("width", width * SCALE);
  copy.setAttribute("height", height * SCALE);
  copyStyles(svg, copy);
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  const { canvas, context } = blank(width, height);
  context.drawImage(image, 0, 0, width, height);
  return canvas;
}

/** Coloured words as a canvas: the grounds of an element and its descendants, and their lines of text. */
function painted(element) {
  const { left, top, width, height } = element.getBoundingClientRect();
  const { canvas, context } = blank(width, height);
  context.translate(-left, -top);
  context.textBaseline = "middle";
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = walker.currentNode; node; node = walker.nextNode()) {
    if (node instanceof Text) write(context, node);
    else fill(context, node);
  }
  return canvas;
}

function blank(width, height) {
  const canvas = html("canvas", { width: Math.ceil(width * SCALE), height: Math.ceil(height * SCALE) });
  const context = canvas.getContext("2d");
  context.scale(SCALE, SCALE);
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, width, height);
  return { canvas, context };
}

function fill(context, element) {
  if (!element.checkVisibility()) return;
  const { left, top, width, height } = element.getBoundingClientRect();
  context.fillStyle = getComputedStyle(element).backgroundColor;
  context.fillRect(left, top, width, height);
}

function write(context, node) {
  const style = getComputedStyle(node.parentElement);
  context.fillStyle = style.color;
  context.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  for (const { text, left, top, height } of linesOf(node)) context.fillText(text, left, top + height / 2);
}

/** A text as it was broken into lines, and where each one stands. */
function linesOf(node) {
  const lines = [];
  const range = document.createRange();
  for (let index = 0; index < node.length; index += 1) {
    range.setStart(node, index);
    range.setEnd(node, index + 1);
    const [box] = range.getClientRects();
    if (!box) continue; // not shown
    const line = lines.at(-1);
    if (line && line.top === box.top) line.text += node.data[index];
    else lines.push({ text: node.data[index], left: box.left, top: box.top, height: box.height });
  }
  return lines;
}

/** A picture has no style sheet: what the page's says goes to each element. */
function copyStyles(from, to) {
  const styles = getComputedStyle(from);
  for (const name of STYLES) to.style.setProperty(name, styles.getPropertyValue(name));
  for (const [index, child] of [...from.children].entries()) copyStyles(child, to.children[index]);
}

/** A number as short as it reads back: what was float32 has at most nine digits. */
function exact(value) {
  if (Math.fround(value) !== value) return String(value);
  const digits = [6, 7, 8, 9].find((count) => Math.fround(Number(value.toPrecision(count))) === value);
  return digits ? String(Number(value.toPrecision(digits))) : String(value);
}

function field(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  const text = typeof value === "number" ? exact(value) : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
