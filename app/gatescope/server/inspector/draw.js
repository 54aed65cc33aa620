// What the charts over time draw alike: ticks, names of rows, what was read, lines.

import { GUTTER } from "./chart.js";
import { precise } from "./number.js";
import { visible } from "./token.js";

export const AXIS = 22; // pixels, the height of the line of ticks

const TOKEN_WIDTH = 7; // pixels that a character takes, at least
const DOTTED = 9; // pixels a step, from which on each is marked

/** @returns {Object<string, string>} the page's colours, for canvases */
export function inks() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["ink", "muted", "line", "accent", "panel"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** The ticks of the time axis: the tokens where there is room for them, else numbers. */
export function drawAxis(context, axis, y, { trace, state }) {
  const colours = inks();
  const tokens = trace.meta.tokens?.[state.get().sequence];
  context.font = fontOf(11);
  context.textBaseline = "middle";
  context.fillStyle = colours.muted;
  context.textAlign = "center";
  if (tokens && axis.step >= TOKEN_WIDTH) {
    for (let time = axis.from; time < axis.to; time += 1) context.fillText(fitting(tokens[time], axis.step), axis.middle(time), y + AXIS / 2);
    return;
  }
  const every = tickEvery(axis);
  for (let time = Math.ceil(axis.from / every) * every; time < axis.to; time += every) {
    context.fillText(time.toLocaleString("en"), axis.middle(time), y + AXIS / 2 + 2);
    context.fillRect(axis.middle(time), y, 1, 4);
  }
}

/** What was read, above or among the signals: tokens, or the feature that was chosen. */
export function drawInputs(context, axis, { y, height }, { trace, state, info }) {
  const { sequence, feature } = state.get();
  const colours = inks();
  drawName(context, y + height / 2, "x", trace.meta.tokens ? "tokens" : (info.input.feature_names?.[feature] ?? `feature ${feature}`), GUTTER - 18);
  if (trace.meta.tokens) {
    drawAxis(context, axis, y + height / 2 - AXIS / 2, { trace, state });
    return;
  }
  const rows = trace.inputs?.[sequence];
  if (!rows) return;
  const series = (time) => rows[time]?.[feature] ?? NaN;
  drawSeries(context, axis, { y, height }, extentOf(series, axis), columns(series, axis), colours.ink);
}

/** The letter and the name of a row, left of it; the name is `room` pixels wide at most. */
export function drawName(context, y, letter, name, room = GUTTER - 46) {
  const colours = inks();
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = colours.ink;
  context.font = `italic ${fontOf(15)}`;
  context.fillText(letter, 0, y);
  context.fillStyle = colours.muted;
  context.font = fontOf(11);
  const [first, ...rest] = wrapped(context, name, room);
  context.fillText(first, 14, rest.length ? y - 6 : y);
  if (rest.length) context.fillText(rest[0], 14, y + 7);
}

/**
 * A line over time, between the least and the most of each column.
 * @param {{y: number, height: number}} row
 * @param {[number, number]} extent the values at its bottom and top
 * @param {{x: number, least: number, most: number, mean: number}[]} points
 */
export function drawSeries(context, axis, { y, height }, [low, high], points, colour) {
  const known = points.filter(({ mean }) => Number.isFinite(mean));
  if (known.length === 0) return;
  const level = (value) => y + height - 3 - ((value - low) / (high - low || 1)) * (height - 6);
  context.fillStyle = context.strokeStyle = colour;
  context.globalAlpha = 0.25;
  for (const { x, least, most } of known) if (most > least) context.fillRect(x - 0.5, level(most), 1, level(least) - level(most));
  const line = new Path2D();
  for (const { x, mean } of known) line.lineTo(x, level(mean));
  context.globalAlpha = 0.08;
  context.fill(underneath(line, known, level(Math.max(low, Math.min(0, high)))));
  context.globalAlpha = 1;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.stroke(line);
  if (axis.step >= DOTTED) for (const { x, mean } of known) drawDot(context, x, level(mean));
}

/** The area between a line and the level of nothing. */
function underneath(line, points, nothing) {
  const area = new Path2D(line);
  area.lineTo(points.at(-1).x, nothing);
  area.lineTo(points[0].x, nothing);
  return area;
}

function drawDot(context, x, y) {
  context.beginPath();
  context.arc(x, y, 2, 0, 2 * Math.PI);
  context.fill();
}

/** @returns the points of a series that is all here, one for each pixel at most */
function columns(series, axis) {
  const count = Math.min(axis.to - axis.from, Math.floor(axis.width));
  return Array.from({ length: count }, (_, column) => {
    const first = axis.from + Math.floor((column * (axis.to - axis.from)) / count);
    const last = axis.from + Math.floor(((column + 1) * (axis.to - axis.from)) / count);
    let [least, most, sum] = [Infinity, -Infinity, 0];
    for (let time = first; time < last; time += 1) {
      const value = series(time);
      least = Math.min(least, value);
      most = Math.max(most, value);
      sum += value;
    }
    return { x: (axis.x(first) + axis.x(last)) / 2, least, most, mean: sum / (last - first) };
  });
}

function extentOf(series, { from, to }) {
  let [low, high] = [Infinity, -Infinity];
  for (let time = from; time < to; time += 1) {
    const value = series(time);
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low > high ? [0, 1] : low === high ? [low - 1, high + 1] : [low, high];
}

/** The numbers at the bottom and top of a row, left of it. */
export function drawExtent(context, { y, height }, [low, high]) {
  context.font = fontOf(10);
  context.textAlign = "right";
  context.fillStyle = inks().muted;
  context.fillText(precise(rounded(high)), GUTTER - 5, y + 7);
  context.fillText(precise(rounded(low)), GUTTER - 5, y + height - 6);
}

function rounded(value) {
  return Number(value.toPrecision(2));
}

export function fontOf(size) {
  return `${size}px ${getComputedStyle(document.body).fontFamily}`;
}

function tickEvery({ from, to, width }) {
  const least = Math.max(1, ((to - from) * 64) / width);
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((every) => every >= least);
}

function fitting(token, room) {
  const text = visible(String(token));
  const most = Math.max(1, Math.floor(room / TOKEN_WIDTH));
  return text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text;
}

function wrapped(context, name, width) {
  if (context.measureText(name).width <= width) return [name];
  const cut = [...name.matchAll(/ |(?<=_)/g)].map(({ index }) => index).findLast((index) => context.measureText(name.slice(0, index)).width <= width);
  const shortened = (text) => {
    let kept = text;
    while (context.measureText(kept).width > width) kept = `${kept.replace(/…$/, "").slice(0, -1)}…`;
    return kept;
  };
  return cut === undefined ? [shortened(name)] : [name.slice(0, cut), shortened(name.slice(cut).trimStart())];
}
