// Keeps the page of a run up to date while the run lasts: new lines of its log, and the rest of the page when it changes.
const MOST_ROWS = 5000;
const REFRESH_MS = 1000;
const LONGEST_PAUSE_MS = 10000;
const policy = window.trustedTypes?.createPolicy("optio", { createHTML: (text) => text });
let last = 0;
let pause = 500;
let refreshing = null;

const part = () => document.getElementById("live");
const tell = (text) => { const place = document.getElementById("live-state"); if (place) place.textContent = text; };

function append(line) {
  const list = document.getElementById("log");
  if (!list || "part" in part().dataset) return;
  const follows = window.innerHeight + window.scrollY >= document.body.scrollHeight - 40;
  const row = document.createElement("li");
  row.value = line.seq;
  row.className = line.kind;
  const kind = document.createElement("span");
  kind.className = "kind";
  kind.textContent = line.kind;
  const code = document.createElement("code");
  code.textContent = line.text;
  row.append(kind, code);
  list.append(row);
  while (list.children.length > MOST_ROWS) list.firstChild.remove();
  if (follows) window.scrollTo(0, document.body.scrollHeight);
}

// The server's own page, in which everything is escaped: only its changed part takes the place of the old one.
async function refresh() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const html = await answer.text();
  const page = new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");
  const fresh = page.getElementById("live");
  if (!fresh) return;
  const folds = [...part().querySelectorAll("details")].map((each) => each.open);
  fresh.querySelectorAll("details").forEach((each, index) => { if (folds[index]) each.open = true; });
  document.title = page.title;
  part().replaceWith(fresh);
}

function refreshSoon() {
  refreshing ??= setTimeout(async () => { refreshing = null; await refresh().catch(() => {}); tell("live"); }, REFRESH_MS);
}

function follow() {
  const address = new URL(`/ws/workflow-runs/${part().dataset.run}/logs?after=${last}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  let ended = false;
  socket.onopen = () => { pause = 500; tell("live"); };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "end") { ended = true; clearTimeout(refreshing); refresh().then(() => tell("ended")); return; }
    last = message.seq;
    if (part().dataset.tab === "log") append(message); else refreshSoon();
  };
  socket.onclose = ({ code }) => {
    if (ended || code === 1000) return;
    if (code === 4401) { tell("signed out"); return; }
    tell("reconnecting");
    setTimeout(reconnect, pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  };
}

// A socket that is refused does not say why; the page itself leads to the login when that is over.
async function reconnect() {
  const answer = await fetch(location.href, { redirect: "manual" }).catch(() => null);
  if (answer?.type === "opaqueredirect") tell("signed out"); else follow();
}

if (part() && "open" in part().dataset) { last = Number(part().dataset.last); follow(); }
