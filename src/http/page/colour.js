// Colours that people with any colour vision can tell apart.

/** Cividis, by a few of its stops: even in lightness, the same for most who see fewer colours. */
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];

/** Hues of Okabe and Ito and of Tol, ordered so that neighbours differ most. They repeat: hovering isolates. */
const OWNERS = {
  light: ["#3b7dae", "#dfae4e", "#3d9c84", "#c27fa4", "#8dbddb", "#bf6b45", "#7a69a6", "#aead5e", "#3f858c", "#957064", "#b3cbe0", "#858e95"],
  dark: ["#4788ba", "#d3a348", "#3f9c85", "#b97599", "#7eb0d0", "#bd6a45", "#8473b3", "#a3a254", "#468b93", "#997568", "#a1bad0", "#808a91"],
};

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** A pixel of a canvas, as one number. */
export const pixel = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

const STOPS = CIVIDIS.map(rgb);

/** The heat of `share`, 0 to 1. */
export function heat(share) {
  const at = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((value, place) => Math.round(value + (STOPS[low + 1][place] - value) * (at - low)));
}

/** 256 pixels from cold to hot. */
export const HEAT = Uint32Array.from({ length: 256 }, (_, level) => pixel(heat(level / 255)));

export const isDark = () => document.documentElement.dataset.theme === "dark";

/** The colour of the node at a place of the list. */
export function owner(place) {
  const palette = OWNERS[isDark() ? "dark" : "light"];
  return palette[place % palette.length];
}

export const ownerRgb = (place) => rgb(owner(place));
export const HUES = OWNERS.light.length;

/** `colour`, so much of it over `ground`. */
export const over = (colour, ground, share) => colour.map((value, place) => Math.round(value * share + ground[place] * (1 - share)));

/** A custom property of the style sheet, as numbers. */
export function styleRgb(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return /^#[0-9a-f]{6}$/i.test(text) ? rgb(text) : [128, 128, 128];
}
