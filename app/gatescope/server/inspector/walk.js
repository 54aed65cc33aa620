// Moves: the cursor along time and over the units, the visible span along time.

const SHORTEST = 4; // time steps that stay visible

export function clamp(value, least, most) {
  return Math.max(least, Math.min(value, most));
}

/**
 * Move the cursor by so many steps, or over so many units in the order in which they are shown, as far as there are any.
 * @param {import("./page.js").Page} page
 * @param {{time?: number, unit?: number}} by
 */
export function move({ state, trace, order }, by) {
  const { sequence, time, unit } = state.get();
  state.set({
    time: clamp(time + (by.time ?? 0), 0, trace.length(sequence) - 1),
    ...(by.unit && { unit: beside(unit, by.unit, order ?? Array.from(trace.meta.units.keys())) }),
  });
}

/** The unit that stands so many places after another in this order, as far as there are any. */
function beside(unit, places, order) {
  return order[clamp(order.indexOf(unit) + places, 0, order.length - 1)];
}

/** Show so many times as much time, around a step, by default the cursor. */
export function zoom(page, factor, around = page.state.get().time) {
  const { from, to, sequence } = page.state.get();
  const length = page.trace.length(sequence);
  const shown = (to ?? length) - from;
  const wanted = clamp(Math.round(shown * factor), Math.min(SHORTEST, length), length);
  const share = clamp((around - from) / shown, 0, 1);
  show(page, Math.round(around - share * wanted), wanted);
}

/** Move what is visible by so many steps. */
export function pan(page, steps) {
  const { from, to, sequence } = page.state.get();
  show(page, from + Math.round(steps), (to ?? page.trace.length(sequence)) - from);
}

/** Bring the cursor back into view where it has left. */
export function follow(page) {
  const { from, to, time, sequence } = page.state.get();
  const stop = to ?? page.trace.length(sequence);
  if (time < from) show(page, time, stop - from);
  else if (time >= stop) show(page, time - (stop - from) + 1, stop - from);
}

function show({ state, trace }, first, count) {
  const length = trace.length(state.get().sequence);
  const from = clamp(first, 0, length - count);
  state.set({ from, to: from + count >= length ? null : from + count });
}
