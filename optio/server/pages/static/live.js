// Keeps a page up to date through one WebSocket: it follows logs, and where runs change, the parts of the page that show them
// are fetched again and changed in place. Nothing is followed while the tab is hidden.
import { Idiomorph } from "./vendor/idiomorph.js";

const PING_MS = 5000;
const LONGEST_PAUSE_MS = 10000;
const REFRESH_MS = 700;
const policy = window.trustedTypes?.createPolicy("optio", { createHTML: (text) => text });
const subscriptions = new Map();
let socket = null;
let pause = 250;
let retry = 0;
let pinged = 0;
let refreshing = null;
let again = false;
let leaving = false;

function tell(text, ms = "") {
  const place = document.getElementById("live-state");
  if (!place || (place.textContent === text && !ms)) return;
  if (place.textContent !== text) place.textContent = text;
  place.dataset.state = text;
  document.getElementById("live-ms").textContent = ms;
}

function send(id, sub) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ id, ...sub.ask() }));
}

// `ask` makes the message that subscribes, again after each reconnect; `on` gets the messages for it. Returns what ends it.
export function subscribe(ask, on) {
  const id = `s${subscribe.count = (subscribe.count ?? 0) + 1}`;
  const sub = { ask, on };
  subscriptions.set(id, sub);
  if (socket) send(id, sub); else connect();
  return () => {
    if (subscriptions.delete(id)) send(id, { ask: () => ({ type: "drop" }) });
    if (!subscriptions.size) { socket?.close(); tell(""); }
  };
}

function connect() {
  if (socket || document.hidden || !subscriptions.size || leaving) return;
  clearTimeout(retry);
  const address = new URL("/ws/live", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const mine = socket = new WebSocket(address);
  mine.onopen = () => {
    pause = 250;
    tell("live");
    subscriptions.forEach((sub, id) => send(id, sub));
    ping();
  };
  mine.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "pong") {
      tell("live", ` · ${Math.round(performance.now() - pinged)} ms`);
      pinged = 0;
    } else {
      const sub = subscriptions.get(message.id);
      // What ends at the server is not asked for again.
      if (message.type === "end" || message.type === "refused") subscriptions.delete(message.id);
      sub?.on(message);
    }
  };
  mine.onclose = ({ code }) => {
    if (socket !== mine) return;
    socket = null;
    pinged = 0;
    if (code === 4401) { signedOut(); return; }
    if (document.hidden || !subscriptions.size) return;
    tell("reconnecting");
    clearTimeout(retry);
    retry = setTimeout(reconnect, pause * (0.75 + Math.random() / 2));
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  };
}

function ping() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  // A connection that is gone says nothing.
  if (pinged) { const gone = socket; gone.onclose({ code: 1006 }); gone.close(); return; }
  pinged = performance.now();
  socket.send('{"type":"ping"}');
}

// A socket that is refused does not say why; the page itself leads to the login when that is over.
async function reconnect() {
  const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" }).catch(() => null);
  if (answer?.type === "opaqueredirect") signedOut(); else connect();
}

function signedOut() {
  tell("signed out");
  leaving = true;
}

function disconnect() {
  const old = socket;
  socket = null;
  pinged = 0;
  clearTimeout(retry);
  // Browsers report one that is closed before it is open.
  if (old?.readyState === WebSocket.CONNECTING) old.onopen = () => old.close(); else old?.close();
}

document.addEventListener("visibilitychange", () => { if (document.hidden) disconnect(); else connect(); });
window.addEventListener("pagehide", disconnect);
window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
setInterval(ping, PING_MS);

// What a person has typed, chosen or folded stays as it is, and so do parts that a script has made (`data-own`).
const callbacks = {
  beforeNodeMorphed: (old) => !(old instanceof Element && (old.matches("input, select, textarea") || "own" in old.dataset)),
  beforeAttributeUpdated: (name, node) => !(name === "open" && node.matches("details, dialog")),
  beforeNodeRemoved: (node) => !(node instanceof Element && "own" in node.dataset),
};
const morph = (old, fresh) => Idiomorph.morph(old, fresh, { callbacks, ignoreActiveValue: true });

// A list keeps its rows where they are: known ones change in place, and new ones wait behind a button.
function changeRows(old, page) {
  const fresh = page.getElementById(old.id);
  const rows = new Map([...fresh.querySelectorAll("[id^='run-']")].map((row) => [row.id, row]));
  for (const row of old.querySelectorAll("[id^='run-']")) {
    const now = rows.get(row.id);
    row.classList.toggle("stale", !now);
    if (now && row.outerHTML !== now.outerHTML) morph(row, now);
    rows.delete(row.id);
  }
  const first = old.querySelector("[id^='run-']");
  // Ids begin with their time; what is older than the first row has only come up from the next page.
  const count = [...rows.keys()].filter((id) => !first || id > first.id).length;
  let pill = document.getElementById("pill");
  if (!count) { pill?.remove(); return; }
  if (!pill) {
    pill = document.createElement("button");
    pill.id = "pill";
    pill.type = "button"; // it may stand in a form
    pill.className = "pill";
    pill.onclick = () => location.reload();
    pill.dataset.own = "";
    pill.setAttribute("role", "status");
    old.before(pill);
  }
  // Where the whole page is new, the next one may be, too.
  const more = count === fresh.querySelectorAll("[id^='run-']").length && page.querySelector("a[rel=next]") ? "+" : "";
  pill.textContent = `${count}${more} new ${count === 1 ? "run" : "runs"}`;
}

// The server's own page, in which everything is escaped: only its changed parts take the place of the old ones.
async function refresh() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
  if (answer.type === "opaqueredirect") { signedOut(); return; }
  if (!answer.ok) return;
  const html = await answer.text();
  const page = new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");
  document.title = page.title;
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh) continue;
    if ("rows" in old.dataset) changeRows(old, page); else morph(old, fresh);
  }
  document.dispatchEvent(new Event("morphed"));
}

export function refreshSoon() {
  if (refreshing) { again = true; return; }
  refreshing = setTimeout(async () => {
    again = false;
    await refresh().catch(() => {});
    refreshing = null;
    if (again) refreshSoon();
  }, REFRESH_MS);
}

// Follows a log from a cursor, past the ends of its attempts: a run that is retried goes on.
export function follow(run, after, on) {
  let ended = true;
  const start = () => {
    ended = false;
    subscribe(() => ({ type: "follow", run, after }), (message) => {
      if (message.lines) after = message.lines.at(-1).seq; else ended = true;
      on(message);
    });
  };
  document.addEventListener("runs", ({ detail: { runs, missed } }) => {
    const mine = runs.find((each) => each.id === run);
    if (ended && (mine ? ["queued", "running"].includes(mine.state) : missed)) start();
  });
  start();
}

// `data-live` marks a part that shows runs: all of them, or those of one `data-task` or `data-run`.
const tasks = new Map();
for (const { dataset: { task = "", run = "" } } of document.querySelectorAll("[data-live]")) tasks.set(task, [...(tasks.get(task) ?? []), run]);
for (const [task, wanted] of tasks) {
  subscribe(() => ({ type: "watch", ...(task ? { task } : {}) }), ({ runs = [], missed }) => {
    document.dispatchEvent(new CustomEvent("runs", { detail: { runs, missed } }));
    if (missed || runs.some((each) => wanted.some((run) => !run || run === each.id))) refreshSoon();
  });
}
// A conversation gets new turns with each line of its log.
for (const part of document.querySelectorAll("[data-turns]")) follow(part.dataset.turns, Number(part.dataset.last), refreshSoon);
