// Colours of terminals as classes: a line becomes pieces of [text, classes]. Other control sequences are left out, and other
// control characters are shown as signs, and so are those that reorder what stands beside them.
const SEQUENCE = /\x1b(?:\[([0-?]*)([ -/]*[@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])?|\x9b([0-?]*)([@-~])/g;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"] };

export const visible = (text) =>
  text.replace(/[\x00-\x08\x0b-\x1f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0))).replace(/[\x7f-\x9f]/g, "␡")
    .replace(/[\u202a-\u202e\u2066-\u2069]/g, (c) => `[U+${c.charCodeAt(0).toString(16).toUpperCase()}]`);

function colour(state, place, number) {
  state[place] = number === null ? "" : `ansi-${place}-${number > 7 ? "bright-" : ""}${NAMES[number % 8]}`;
}

function apply(state, codes) {
  for (let at = 0; at < codes.length; at += 1) {
    const code = Number(codes[at] || 0);
    if (code === 0) { state.fg = state.bg = ""; state.set.clear(); }
    else if (ON[code]) state.set.add(ON[code]);
    else if (OFF[code]) OFF[code].forEach((each) => state.set.delete(each));
    else if (code === 38 || code === 48) {
      const place = code === 38 ? "fg" : "bg";
      if (codes[at + 1] === "5") { const number = Number(codes[at + 2]); if (number < 16) colour(state, place, number); at += 2; }
      else if (codes[at + 1] === "2") at += 4;
    } else if (code === 39 || code === 49) colour(state, code === 39 ? "fg" : "bg", null);
    else for (const [first, place, base] of [[30, "fg", 0], [40, "bg", 0], [90, "fg", 8], [100, "bg", 8]]) {
      if (code >= first && code < first + 8) colour(state, place, code - first + base);
    }
  }
}

export function pieces(text) {
  if (!/[\x1b\x9b]/.test(text)) return [[visible(text), ""]];
  const found = [];
  const state = { fg: "", bg: "", set: new Set() };
  let at = 0;
  const add = (end) => {
    if (end > at) found.push([visible(text.slice(at, end)), [state.fg, state.bg, ...[...state.set].map((each) => `ansi-${each}`)].filter(Boolean).join(" ")]);
  };
  for (const match of text.matchAll(SEQUENCE)) {
    add(match.index);
    at = match.index + match[0].length;
    if ((match[2] ?? match[4]) === "m") apply(state, (match[1] ?? match[3]).split(/[;:]/));
  }
  add(text.length);
  return found;
}
