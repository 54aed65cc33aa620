// Two colour scales: one from nothing to all, as for gates, and one that diverges around 0, as for states.

import { isSequential } from "./signals.js";

// Lightness grows evenly, so the order survives without hues: in grey print and for the colour-blind.
const SHUT_TO_OPEN = ["#2b1151", "#3a4c8c", "#227f8e", "#4fb477", "#f4e34b"];
// Blue and orange-red differ for every common kind of colour blindness; nothing has the ground's own colour.
const NEGATIVE_TO_POSITIVE = {
  light: ["#143d85", "#5b8fcc", "#f4f4f2", "#dd8064", "#96201b"],
  dark: ["#86bbff", "#3c6fb3", "#20242b", "#b1523d", "#ffa184"],
};
const UNKNOWN = "transparent";
const ENTRIES = 256;

/** The scales of one theme. */
export class Colours {
  /** @param {"light"|"dark"} theme */
  constructor(theme) {
    this.sequential = table(SHUT_TO_OPEN);
    this.diverging = table(NEGATIVE_TO_POSITIVE[theme]);
  }

  /** @param {number} value 0…1 @returns {string} a CSS colour */
  gate(value) {
    return css(this.sequential, value);
  }

  /** @param {number} value −1…1 @returns {string} a CSS colour */
  state(value) {
    return css(this.diverging, (value + 1) / 2);
  }

  /** @param {string} ground a CSS colour of these scales @returns {string} the colour in which text can be read on it */
  on(ground) {
    const channels = ground.match(/[\d.]+/g)?.map(Number);
    if (!channels || channels.length < 3 || channels[3] === 0) return "inherit";
    const [red, green, blue] = channels.map((channel) => linear(channel / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#101214" : "#ffffff";
  }

  /** @param {import("./signals.js").Signal} signal @returns {"sequential"|"diverging"} the scale of its range */
  static kind(signal) {
    return isSequential(signal) ? "sequential" : "diverging";
  }

  /** @param {"sequential"|"diverging"} kind @returns {string} a CSS gradient from its lowest to its highest value */
  gradient(kind) {
    const stops = Array.from({ length: 17 }, (_, stop) => css(this[kind], stop / 16));
    return `linear-gradient(to right, ${stops.join(", ")})`;
  }

  /** @returns {Uint32Array} the scale as pixels of a canvas, from its lowest to its highest value */
  pixels(kind) {
    return new Uint32Array(this[kind].map(([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red));
  }
}

function css(entries, share) {
  if (!Number.isFinite(share)) return UNKNOWN;
  const index = Math.max(0, Math.min(ENTRIES - 1, Math.round(share * (ENTRIES - 1))));
  return `rgb(${entries[index].join(", ")})`;
}

/** Colours between anchors, even to the eye: mixed in OKLab (https://bottosson.github.io/posts/oklab/). */
function table(anchors) {
  const mixed = anchors.map((anchor) => oklab(anchor));
  return Array.from({ length: ENTRIES }, (_, index) => {
    const place = (index / (ENTRIES - 1)) * (mixed.length - 1);
    const left = Math.min(Math.floor(place), mixed.length - 2);
    return rgb(mixed[left].map((value, axis) => value + (place - left) * (mixed[left + 1][axis] - value)));
  });
}

function oklab(hex) {
  const [r, g, b] = [1, 3, 5].map((start) => linear(parseInt(hex.slice(start, start + 2), 16) / 255));
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

function rgb([lightness, a, b]) {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const channels = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return channels.map((channel) => Math.round(255 * Math.max(0, Math.min(1, companded(channel)))));
}

function linear(channel) {
  return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
}

function companded(channel) {
  return channel <= 0.0031308 ? 12.92 * channel : 1.055 * channel ** (1 / 2.4) - 0.055;
}
