// Keys of all pages, the palette that finds tasks, runs and pages, and the switch of colours.
const $ = (selector, root = document) => root.querySelector(selector);
const ITEMS = "tbody tr, section.turn";
const THEMES = ["", "light", "dark"];
let current = null;
let asked = 0;

// The link that a row is about: a row of runs names its task, too.
const linkOf = (item) => (item.id.startsWith("run-") && $("a[href^='/runs/']", item)) || $("a[href]", item);

function items() { return [...document.querySelectorAll(ITEMS)].filter((each) => each.offsetParent && (each.matches(".turn") || $("a[href]", each))); }

function select(item) {
  current?.classList.remove("current");
  current = item;
  if (!item) return;
  item.classList.add("current");
  const target = item.matches(".turn") ? item : linkOf(item);
  target.focus({ preventScroll: true });
  item.scrollIntoView({ block: item.matches(".turn") ? "start" : "nearest" });
}

// A part that is brought up to date gets the server's classes, and may get its rows anew.
document.addEventListener("morphed", () => {
  if (current && !current.isConnected) current = document.getElementById(current.id);
  current?.classList.add("current");
});

function move(by) {
  const all = items();
  if (!all.length) return;
  const at = all.indexOf(current);
  select(all[Math.min(all.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by))]);
}

function fold() {
  const box = current && $("input[type=checkbox]", current);
  if (box) { box.click(); return; }
  const folds = [...(current ?? document).querySelectorAll("details")];
  const open = folds.some((each) => !each.open);
  folds.forEach((each) => { each.open = open; });
}

function nextError() {
  const failed = [...document.querySelectorAll(".call.erred, .said.stderr")];
  const at = failed.indexOf(nextError.last);
  const next = nextError.last = failed[(at + 1) % failed.length];
  if (!next) return;
  if (next.matches("details")) next.open = true;
  ($("summary", next) ?? next).focus({ preventScroll: true });
  next.scrollIntoView({ block: "center" });
}

function run() {
  const link = (current && $("a[href$='/run']", current)) ?? $("a[href$='/run']", $("#main .acts, #main .head"));
  link?.click();
}

const KEYS = {
  j: () => move(1), k: () => move(-1), x: fold, e: nextError, r: run,
  o: () => current && linkOf(current)?.click(), Enter: () => current && linkOf(current)?.click(),
  "?": () => $("#keys").showModal(), "/": openPalette,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !KEYS[event.key]) return;
  if (event.target.closest("input, textarea, select, dialog, [contenteditable], .cm-editor")) return;
  if (event.key === "Enter" && event.target !== document.body && !event.target.matches(".turn")) return;
  event.preventDefault();
  KEYS[event.key]();
});

// The palette: pages are those of the navigation, the server finds tasks and runs.

function openPalette() {
  const palette = $("#palette");
  palette.showModal();
  $("input", palette).select();
  find();
}

async function find() {
  const input = $("#palette input");
  const q = input.value.trim();
  const turn = ++asked;
  const pages = [...document.querySelectorAll("header nav a:not(.brand)")].map((each) => [each.textContent, "page", each.getAttribute("href")]);
  let found = pages.filter(([name]) => name.toLowerCase().includes(q.toLowerCase()));
  if (q) {
    const answer = await fetch(`/api/search?q=${encodeURIComponent(q)}`).catch(() => null);
    if (turn !== asked) return;
    if (answer?.ok) {
      const { tasks, runs } = await answer.json();
      found = [
        ...runs.map((each) => [`${each.id} · ${each.taskId}`, each.state, `/runs/${each.id}`]),
        ...tasks.map((each) => [each.name, each.id, `/tasks/${encodeURIComponent(each.id)}`]), ...found];
    }
  }
  const list = $("#palette ul");
  list.replaceChildren(...found.map(([name, kind, href], place) => {
    const link = Object.assign(document.createElement("a"), { href, textContent: name, id: `found-${place}`, role: "option", tabIndex: -1 });
    const entry = Object.assign(document.createElement("li"), { role: "none" });
    link.append(Object.assign(document.createElement("span"), { className: "note", textContent: ` ${kind}` }));
    entry.append(link);
    return entry;
  }));
  $("#palette .none").hidden = found.length > 0;
  point(list.firstElementChild);
}

// The field keeps the focus, and says which entry Enter opens.
function point(entry) {
  for (const each of document.querySelectorAll("#palette li")) {
    each.classList.toggle("current", each === entry);
    each.firstElementChild.ariaSelected = String(each === entry);
  }
  if (entry) $("#palette input").setAttribute("aria-activedescendant", entry.firstElementChild.id);
  else $("#palette input").removeAttribute("aria-activedescendant");
}

function choose(event) {
  const all = [...document.querySelectorAll("#palette li")];
  const at = all.findIndex((each) => each.matches(".current"));
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by && all.length) {
    const next = all[(at + by + all.length) % all.length];
    point(next);
    next.scrollIntoView({ block: "nearest" });
  } else if (event.key === "Enter") $("a", all[at] ?? document.createElement("i"))?.click();
  else return;
  event.preventDefault();
}

const palette = $("#palette");
if (palette) {
  let later = 0;
  $("input", palette).addEventListener("input", () => { clearTimeout(later); later = setTimeout(find, 120); });
  $("input", palette).addEventListener("keydown", choose);
  for (const [button, act] of [["#find", openPalette], ["#help", KEYS["?"]]]) { $(button).hidden = false; $(button).addEventListener("click", act); }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.matches(".close")) dialog.close(); });
  }
}

// What scrolls and has nothing in it to focus is a stop of the Tab key, so that the arrow keys scroll it. A morph takes the
// mark away: it is set again before the browser looks, so that a text which has the focus keeps it.
function mark(each) {
  const isStop = (each.scrollWidth > each.clientWidth || each.scrollHeight > each.clientHeight) && !$("a, button, input, select", each);
  if (isStop) each.tabIndex = 0; else each.removeAttribute("tabindex");
}
const scrollers = new ResizeObserver((entries) => entries.forEach(({ target }) => mark(target)));
function watch() {
  scrollers.disconnect();
  for (const each of document.querySelectorAll(".scroll, pre")) { mark(each); scrollers.observe(each); }
}
document.addEventListener("morphed", watch);
watch();

const button = $("#theme");
if (button) {
  const show = () => { button.textContent = { "": "◐", light: "☀", dark: "☾" }[document.documentElement.dataset.theme ?? ""] ?? "◐"; button.title = `Colours: ${document.documentElement.dataset.theme || "as the system has them"}`; };
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % THEMES.length];
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* it holds for this page */ }
    show();
  });
  show();
}
