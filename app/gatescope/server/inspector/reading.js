// Files and pasted text -> sequences, or a whole predict body.

import { readNpy } from "./npy.js";
import { depthOf } from "./sequence.js";

/** What was given cannot be read; the message says where and why. */
export class ReadingError extends Error {}

/**
 * @typedef {{sequence: string|any[]}|{body: object}} Given one sequence, or a predict body
 */

/**
 * @param {File} file
 * @param {object} info ModelInfo
 * @returns {Promise<Given>}
 */
export async function fromFile(file, info) {
  const kind = file.name.split(".").at(-1).toLowerCase();
  if (!["csv", "json", "npy", "txt", "text"].includes(kind)) throw new ReadingError(`${file.name}: a .csv, .json, .npy or .txt file is wanted here.`);
  const text = kind === "npy" ? null : await file.text();
  const isEmpty = text === null ? file.size === 0 : (info.input.text ? text : text.trim()) === "";
  if (isEmpty) throw new ReadingError(`${file.name} is empty; choose a file that holds ${wanted(info)}.`);
  if (text === null) return ofNumbers(readNpy(await file.arrayBuffer()), info);
  if (kind === "json") return ofJson(parsed(text, file.name), info);
  return info.input.text ? { sequence: text } : ofLines(text, info);
}

/**
 * @param {string} text typed or pasted: JSON where it begins like it, else the model's text, or numbers
 * @returns {Given}
 */
export function fromText(text, info) {
  const trimmed = text.trim();
  if (info.input.text) return wholeBody(trimmed) ?? { sequence: text };
  if (trimmed === "") throw new ReadingError("There is nothing to read: type or paste numbers, or choose an example.");
  if (/^[[{]/.test(trimmed)) return ofJson(parsed(trimmed, "The input"), info);
  return ofLines(trimmed, info);
}

/**
 * @param {string} text numbers side by side
 * @param {string[]} names what they stand for
 * @returns {number[]} as many as there are; the server says where that is wrong
 */
export function numbersOf(text, names) {
  const cells = text.split(/[\s,;]+/).filter((cell) => cell !== "");
  return cells.map((cell, index) => number(cell, names[index] ?? `number ${index + 1}`));
}

/**
 * A part of the time of what was given.
 * @param {Given} given
 * @param {string} slice as Python writes it, such as "0:500"; empty for all
 * @returns {Given}
 */
export function sliced(given, slice, info) {
  const text = slice.trim();
  if (text === "") return given;
  const match = /^(-?\d+)?\s*:\s*(-?\d+)?$/.exec(text);
  if (!match) throw new ReadingError(`Steps: '${text}' is no slice; write start:stop, such as 0:500, :100 or -48:.`);
  if (given.body) throw new ReadingError("Steps: a slice is taken of one sequence, and this is a whole request.");
  const [start, stop] = [match[1], match[2]].map((part) => (part === undefined ? undefined : Number(part)));
  const all = typeof given.sequence === "string" && info.input.text ? [...given.sequence] : given.sequence;
  const part = all.slice(start ?? 0, stop);
  if (part.length === 0) throw new ReadingError(`Steps: ${text} leaves none of the ${all.length.toLocaleString("en")} steps.`);
  return { sequence: typeof given.sequence === "string" ? part.join("") : part };
}

/** What a file for this model holds, in words. */
function wanted({ input, lstm }) {
  if (input.text) return "a text";
  if (input.kind === "tokens") return "token ids";
  return `a line of numbers for each time step: ${input.feature_names?.join(", ") ?? `${lstm.input_size} numbers`}`;
}

/** JSON text that is a predict body; other text that begins with a brace is text. */
function wholeBody(text) {
  if (!text.startsWith("{")) return null;
  try {
    const value = JSON.parse(text);
    return "text" in value || "inputs" in value ? { body: value } : null;
  } catch {
    return null;
  }
}

function parsed(text, name) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ReadingError(`${name} is no valid JSON: ${error.message}`);
  }
}

function ofJson(value, info) {
  if (typeof value === "string") return { sequence: value };
  if (Array.isArray(value)) return ofNumbers(value, info);
  if (value && ("inputs" in value || "text" in value)) return { body: value };
  throw new ReadingError('JSON is read as a list of time steps, or as a request such as {"inputs": …} or {"text": …}.');
}

/** Nested lists: one sequence, or a batch of them. */
function ofNumbers(value, info) {
  const alone = info.input.kind === "tokens" ? 1 : 2;
  const depth = depthOf(value);
  if (depth === alone) return { sequence: value };
  if (depth === alone + 1) return value.length === 1 ? { sequence: value[0] } : { body: { inputs: value } };
  if (depth === 1 && info.lstm.input_size === 1) return { sequence: value.map((number) => [number]) };
  throw new ReadingError(`The array has ${depth} axes; this model takes ${alone} (one sequence: ${alone === 1 ? "time" : "time, feature"}) or ${alone + 1} (batch first).`);
}

/** CSV, with a header or without one; columns that the model does not know, such as dates, are left out. */
function ofLines(text, info) {
  const lines = text.split(/\r\n|\n|\r/).filter((line) => line.trim() !== "");
  const separator = [",", ";", "\t"].find((mark) => lines[0].includes(mark)) ?? /\s+/;
  const cells = lines.map((line) => line.trim().split(separator).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1")));
  if (info.input.kind === "tokens") return { sequence: cells.flat().filter((cell) => cell !== "").map((cell, index) => number(cell, `token ${index}`)) };
  const hasHeader = cells[0].some((cell) => cell !== "" && Number.isNaN(Number(cell)));
  const columns = hasHeader ? columnsOf(cells[0], info) : cells[0].map((_, index) => index);
  const rows = hasHeader ? cells.slice(1) : cells;
  if (rows.length === 0) throw new ReadingError("There is a header, and no line of numbers below it.");
  return { sequence: rows.map((row, index) => columns.map((column) => number(row[column], `line ${index + 1 + Number(hasHeader)}, column ${column + 1}`))) };
}

function columnsOf(header, { input, name }) {
  const wanted = input.feature_names;
  if (!wanted) return header.map((_, index) => index);
  const missing = wanted.filter((feature) => !header.includes(feature));
  if (missing.length) throw new ReadingError(`The header has no column ${missing.map((feature) => `'${feature}'`).join(", ")}; '${name}' takes ${wanted.join(", ")}.`);
  return wanted.map((feature) => header.indexOf(feature));
}

function number(cell, place) {
  if (cell === undefined || cell === "") throw new ReadingError(`At ${place} a number is missing.`);
  const value = Number(cell);
  if (!Number.isFinite(value)) throw new ReadingError(`At ${place}: '${cell}' is no number.`);
  return value;
}
