// The viewer of a log: rows of one height, of which only those in view exist, and lines that are fetched around the view. So a log
// of a million lines is as light as one of a hundred. Lines are shown as text only.
import { pieces, visible } from "./ansi.js";
import { follow } from "./live.js";

const ROW = 20; // pixels, as in the style sheet
const MAX_HEIGHT = 12e6; // pixels; browsers know no element that is much higher, so longer logs scroll in larger steps
const MAX_CACHE = 20000; // lines
const MAX_TEXT = 4000; // characters of a line that are kept and shown; the panel shows all
const MAX_FETCH = 500; // lines
const MAX_COPY = 50000; // lines
const MARGIN = 60; // lines fetched around the view

function make(tag, props = {}, ...children) {
  const { data = {}, ...rest } = props;
  const node = Object.assign(document.createElement(tag), rest);
  Object.assign(node.dataset, data);
  node.append(...children);
  return node;
}

class Viewer {
  constructor(root) {
    this.root = root;
    const { run, last, attempts } = root.dataset;
    this.url = `/api/workflow-runs/${run}/logs`;
    this.last = Number(last);
    this.open = "open" in root.dataset;
    this.attempts = new Map(JSON.parse(attempts));
    this.cache = new Map();
    this.asked = new Set();
    this.rows = new Map();
    this.top = 0; // the first row in view, with a fraction
    this.following = false;
    this.errors = null; // the cursors of the errors, while only these are shown
    this.found = { q: "", list: [], count: 0, searched: 0 };
    this.current = 0; // the line that was jumped to
    this.range = null; // the lines chosen for copying
    this.build();
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (wanted.get("q")) { this.input.value = wanted.get("q"); this.search(); }
    if (wanted.has("errors")) { this.only.checked = true; this.filter(); }
    if (Number(wanted.get("L"))) this.jump(Number(wanted.get("L"))); else this.end();
    if (root.dataset.run) follow(run, this.last, (message) => this.take(message));
  }

  build() {
    const button = (text, title, onclick) => make("button", { type: "button", textContent: text, title, onclick });
    this.input = make("input", { type: "search", placeholder: "Search", maxLength: 200 });
    this.input.setAttribute("aria-label", "Search this log");
    this.input.oninput = () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.search(), 200); };
    this.input.onkeydown = (event) => {
      if (event.key === "Enter") { event.preventDefault(); this.step(event.shiftKey ? -1 : 1); }
      if (event.key === "Escape") { this.input.value = ""; this.search(); this.view.focus(); }
    };
    this.hits = make("span", { className: "note hits" });
    this.hits.setAttribute("role", "status");
    this.only = make("input", { type: "checkbox", onchange: () => this.filter() });
    this.hidden = make("span", { className: "note" });
    this.followBox = make("input", { type: "checkbox", onchange: () => { if (this.followBox.checked) this.end(); else this.setFollow(false); } });
    this.tabs = make("span", { className: "attempts" });
    this.bar = make("div", { className: "bar" },
      this.input, button("↑", "Previous match (Shift+Enter)", () => this.step(-1)), button("↓", "Next match (Enter)", () => this.step(1)), this.hits,
      button("Top", "First line (Home)", () => this.begin()), button("Bottom", "Last line (End)", () => this.end()),
      make("label", {}, this.followBox, " Follow"),
      button("Next error", "Next line of standard error or failed tool (e)", () => this.nextError()),
      make("label", {}, this.only, " Errors only"), this.hidden, this.tabs);
    this.layer = make("div", { className: "rows" });
    this.spacer = make("div", { className: "space" }, this.layer);
    this.view = make("div", { className: "view", tabIndex: 0 }, this.spacer);
    this.view.setAttribute("role", "region");
    this.view.setAttribute("aria-label", "Log");
    this.panel = make("aside", { className: "line", hidden: true });
    this.root.replaceChildren(this.bar, make("div", { className: "both" }, this.view, this.panel));
    this.view.addEventListener("scroll", () => this.scrolled());
    this.view.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    this.view.addEventListener("keydown", (event) => this.key(event));
    this.view.addEventListener("click", (event) => this.click(event));
    document.addEventListener("copy", (event) => this.copy(event));
    document.addEventListener("keydown", (event) => {
      // The browser's own search knows only the rows in view; pressed twice it is there.
      if ((event.ctrlKey || event.metaKey) && event.key === "f" && document.activeElement !== this.input) {
        event.preventDefault();
        this.input.focus();
        this.input.select();
      }
    });
    new ResizeObserver(() => this.moved()).observe(this.view);
    this.showTabs();
  }

  // Rows and places. A row is a line, or an error while only these are shown.

  get total() { return this.errors ? this.errors.length : this.last; }
  seqOf(row) { return this.errors ? this.errors[row] : row + 1; }
  rowOf(seq) {
    if (!this.errors) return seq - 1;
    let low = 0, high = this.errors.length;
    while (low < high) { const half = (low + high) >> 1; if (this.errors[half] < seq) low = half + 1; else high = half; }
    return low;
  }
  get inView() { return Math.max(1, this.view.clientHeight / ROW); }
  get maxTop() { return Math.max(0, this.total - this.inView); }
  get height() { return Math.min(this.total * ROW, MAX_HEIGHT); }
  get scaled() { return this.total * ROW > MAX_HEIGHT; }

  // Puts a row on top. The scroll bar follows; its own event is told from one of a person by its place.
  go(top) {
    this.top = Math.min(this.maxTop, Math.max(0, top));
    this.spacer.style.height = `${this.height}px`;
    const room = Math.max(0, this.height - this.view.clientHeight);
    this.view.scrollTop = this.scaled ? room * (this.maxTop ? this.top / this.maxTop : 0) : this.top * ROW;
    this.set = this.view.scrollTop;
    this.draw();
  }
  moved() { this.go(this.following ? this.maxTop : this.top); }
  scrolled() {
    const at = this.view.scrollTop;
    if (Math.abs(at - this.set) < 1) return;
    const up = at < this.set;
    this.set = at;
    const room = Math.max(1, this.height - this.view.clientHeight);
    this.top = Math.min(this.maxTop, this.scaled ? at / room * this.maxTop : at / ROW);
    // Lines that have come meanwhile are no reason to stop: a person who scrolls up is.
    if (up || !this.following) this.setFollow(this.open && !this.errors && this.top >= this.maxTop - 0.5);
    this.draw();
  }
  wheeled(event) {
    if (!this.scaled || event.ctrlKey || !event.deltaY) return;
    event.preventDefault();
    this.by(event.deltaMode === 1 ? event.deltaY : event.deltaMode === 2 ? event.deltaY * this.inView : event.deltaY / ROW);
  }
  by(rows) {
    this.go(this.top + rows);
    this.setFollow(this.open && !this.errors && rows > 0 && this.top >= this.maxTop - 0.5);
  }
  begin() { this.setFollow(false); this.go(0); }
  end() { this.setFollow(this.open && !this.errors); this.go(this.maxTop); }
  setFollow(on) { this.following = on; this.followBox.checked = on; }
  jump(seq) {
    this.setFollow(false);
    this.current = seq;
    if (this.errors && this.errors[this.rowOf(seq)] !== seq) { this.only.checked = false; this.errors = null; this.showHidden(); }
    this.go(this.rowOf(seq) - Math.floor(this.inView / 3));
    this.remember();
  }

  // Chooses the next or the previous line: a number is no stop of the Tab key, of which there would be as many as lines.
  pick(by) {
    if (!this.total) return;
    const row = Math.min(this.total - 1, Math.max(0, this.current ? this.rowOf(this.current) + by : Math.floor(this.top)));
    this.current = this.seqOf(row);
    this.setFollow(false);
    if (row < this.top) this.go(row); else if (row > this.top + this.inView - 1) this.go(row - this.inView + 1); else this.draw();
    this.remember();
  }

  // Lines.

  keep(line) {
    this.cache.delete(line.seq);
    if (line.text.length > MAX_TEXT) { line.more = line.text.length - MAX_TEXT; line.text = line.text.slice(0, MAX_TEXT); }
    delete line.event;
    this.cache.set(line.seq, line);
  }
  trim() {
    for (const seq of this.cache.keys()) { if (this.cache.size <= MAX_CACHE) break; this.cache.delete(seq); }
  }
  async get(query) {
    const answer = await fetch(`${this.url}${query}`);
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer.json();
  }
  // Fetches what the view lacks, by as few requests as its gaps need.
  async need() {
    const first = Math.max(0, Math.floor(this.top) - (this.errors ? 0 : MARGIN));
    const until = Math.min(this.total, Math.ceil(this.top + this.inView) + (this.errors ? 0 : MARGIN));
    const gaps = [];
    let shown = false;
    for (let row = first; row < until; row += 1) {
      const seq = this.seqOf(row);
      if (this.cache.has(seq) || this.asked.has(seq)) continue;
      shown ||= row >= Math.floor(this.top) && row <= this.top + this.inView;
      const gap = gaps.at(-1);
      if (gap && seq - gap[1] < 50 && seq - gap[0] < MAX_FETCH) gap[1] = seq; else gaps.push([seq, seq]);
    }
    // Lines beyond the view alone are worth no request while others are on their way.
    if (!gaps.length || (!shown && this.asked.size) || this.asked.size > 4 * MAX_FETCH) return;
    await Promise.all(gaps.map(async ([from, to]) => {
      const seqs = [];
      for (let seq = from; seq <= to; seq += 1) { seqs.push(seq); this.asked.add(seq); }
      try {
        const { items } = await this.get(`?after=${from - 1}&limit=${to - from + 1}`);
        // A line that has been deleted meanwhile is asked for once.
        seqs.forEach((seq) => this.cache.set(seq, { seq, kind: "", text: "" }));
        items.forEach((line) => this.keep(line));
      } catch { await new Promise((done) => setTimeout(done, 1000)); }
      seqs.forEach((seq) => this.asked.delete(seq));
    }));
    this.trim();
    this.draw();
  }
  take({ lines, type }) {
    if (type === "refused") return;
    if (!lines) { this.open = false; this.setFollow(false); this.draw(); return; }
    this.open = true;
    for (const line of lines) {
      if (!this.attempts.has(line.attempt)) { this.attempts.set(line.attempt, line.seq); this.showTabs(); }
      if (this.errors && (line.kind === "stderr" || line.event?.ok === false)) this.errors.push(line.seq);
      // What is far from the view is fetched when somebody goes there.
      if (this.following || this.last - this.top < 2 * MARGIN) this.keep(line);
    }
    this.last = lines.at(-1).seq;
    this.trim();
    if (this.errors) this.showHidden();
    if (!this.later) this.later = requestAnimationFrame(() => { this.later = 0; this.moved(); });
    if (this.found.q && !this.typing) this.typing = setTimeout(() => this.search(true), 1000);
  }

  draw() {
    const first = Math.floor(this.top), until = Math.min(this.total, Math.ceil(this.top + this.inView) + 1);
    // The layer stands where the view is; what is left of the first row is above it.
    this.layer.style.transform = `translateY(${this.view.scrollTop - (this.top - first) * ROW}px)`;
    const kept = new Map();
    const nodes = [];
    for (let row = first; row < until; row += 1) {
      const seq = this.seqOf(row);
      const line = this.cache.get(seq);
      let node = this.rows.get(seq);
      if (!node || node.line !== line || node.q !== this.found.q) node = this.row(seq, line);
      node.classList.toggle("current", seq === this.current);
      node.classList.toggle("chosen", this.range !== null && seq >= this.range[0] && seq <= this.range[1]);
      kept.set(seq, node);
      nodes.push(node);
    }
    for (const [seq, node] of this.rows) if (kept.get(seq) !== node) node.remove();
    // Rows that stay are not moved, so what is selected in them stays selected.
    nodes.forEach((node, place) => { if (this.layer.children[place] !== node) this.layer.insertBefore(node, this.layer.children[place] ?? null); });
    this.rows = kept;
    this.need();
  }
  row(seq, line) {
    const code = make("code");
    const node = make("div", { className: `row ${line?.kind ?? "wait"}`, data: { seq } },
      make("a", { className: "seq", tabIndex: -1, href: `#L=${seq}`, textContent: seq.toLocaleString("en") }), make("span", { className: "kind", textContent: line?.kind ?? "" }), code);
    node.line = line;
    node.q = this.found.q;
    if (!line) return node;
    for (const [text, classes] of pieces(line.text.replaceAll("\n", "⏎"))) this.marked(code, text, classes);
    if (line.more) code.append(make("span", { className: "more", textContent: ` … ${line.more.toLocaleString("en")} more characters` }));
    return node;
  }
  marked(code, text, classes) {
    const q = this.found.q.toLowerCase();
    let at = 0;
    for (let hit = q ? text.toLowerCase().indexOf(q) : -1; hit >= 0; hit = text.toLowerCase().indexOf(q, at)) {
      code.append(make("span", { className: classes, textContent: text.slice(at, hit) }), make("mark", { textContent: text.slice(hit, hit + q.length) }));
      at = hit + q.length;
    }
    code.append(classes ? make("span", { className: classes, textContent: text.slice(at) }) : text.slice(at));
  }

  // Search, errors and attempts. The server looks at all lines; here are the first 10,000 cursors and their number.

  async search(more = false) {
    clearTimeout(this.typing);
    const q = this.input.value;
    const turn = this.turn = (this.turn ?? 0) + 1;
    let { list, count, searched } = more ? this.found : { list: [], count: 0, searched: 0 };
    if (!more) { this.found = { q, list, count, searched }; this.hits.textContent = q ? "…" : ""; this.remember(); this.draw(); }
    for (let last = Infinity; q && searched < last;) {
      const answer = await this.get(`/search?limit=10000&after=${searched}&q=${encodeURIComponent(q)}`).catch(() => null);
      if (turn !== this.turn) return;
      if (!answer) break;
      if (list.length === count) list = list.concat(answer.matches);
      ({ searched, last } = answer);
      count += answer.count;
      this.found = { q, list, count, searched };
      this.showHits();
    }
    this.typing = 0;
    if (q && !more && count && !this.following) this.step(1, true);
  }
  showHits() {
    const { q, list, count } = this.found;
    const place = list.indexOf(this.current) + 1;
    this.hits.textContent = q ? (place ? `${place.toLocaleString("en")} of ${count.toLocaleString("en")}` : count ? `${count.toLocaleString("en")} found` : "nothing found") : "";
  }
  async step(by, here = false) {
    const { q, list, count } = this.found;
    if (q !== this.input.value) { await this.search(); return; }
    if (!list.length) return;
    const from = this.current || (this.following ? this.last : this.seqOf(Math.floor(this.top)) - (by > 0 || here ? 1 : 0));
    let next = by > 0 ? list.find((seq) => seq > from || (here && seq === from)) : list.findLast((seq) => seq < from);
    if (next === undefined && by > 0 && list.length < count) {
      next = (await this.get(`/search?limit=1&count=false&after=${from}&q=${encodeURIComponent(q)}`)).matches[0];
    }
    this.jump(next ?? (by > 0 ? list[0] : list.at(-1)));
    this.showHits();
  }
  async nextError() {
    const from = this.current || this.seqOf(Math.floor(this.top)) - 1;
    for (const after of [from, 0]) {
      const { matches: [seq] } = await this.get(`/search?errors=true&limit=1&count=false&after=${Math.max(0, after)}`);
      if (seq) { this.jump(seq); return; }
    }
    this.hidden.textContent = "no errors";
  }
  async filter() {
    const seq = this.seqOf(Math.floor(this.top)) ?? 1;
    if (this.only.checked) {
      this.hidden.textContent = "…";
      const { matches, count } = await this.get("/search?errors=true&limit=10000");
      this.errors = matches;
      this.beyond = count - matches.length;
    } else this.errors = null;
    this.setFollow(false);
    this.showHidden();
    this.go(this.rowOf(seq));
    this.remember();
  }
  showHidden() {
    const beyond = this.errors && this.beyond ? ` and ${this.beyond.toLocaleString("en")} errors` : "";
    this.hidden.textContent = this.errors ? `${(this.last - this.errors.length - (this.beyond ?? 0)).toLocaleString("en")} lines${beyond} are hidden` : "";
  }
  showTabs() {
    if (this.attempts.size < 2) return;
    this.tabs.replaceChildren("Attempt ", ...[...this.attempts].map(([number, seq]) => make("button", { type: "button", textContent: number, title: `The first line of attempt ${number}`, onclick: () => this.jump(seq) })));
  }
  remember() {
    const parts = new URLSearchParams();
    if (this.current) parts.set("L", this.current);
    if (this.found.q) parts.set("q", this.found.q);
    if (this.errors) parts.set("errors", "1");
    history.replaceState(null, "", parts.size ? `#${parts}` : location.pathname + location.search);
  }

  // Keys, clicks, the panel of a long line, and copying.

  key(event) {
    if (event.altKey || ((event.ctrlKey || event.metaKey) && event.key !== "a")) return;
    const page = Math.floor(this.inView) - 1;
    const acts = {
      PageDown: () => this.by(page), PageUp: () => this.by(-page), " ": () => this.by(event.shiftKey ? -page : page),
      ArrowDown: () => this.by(1), ArrowUp: () => this.by(-1), Home: () => this.begin(), End: () => this.end(),
      j: () => this.pick(1), k: () => this.pick(-1), n: () => this.step(1), N: () => this.step(-1), e: () => this.nextError(), f: () => this.end(),
      Enter: () => { if (this.current) this.show(this.current); }, Escape: () => this.hide(),
      a: () => { if (event.ctrlKey || event.metaKey) this.choose(1, this.last); },
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }
  click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const seq = Number(row.dataset.seq);
    if (event.target.closest(".seq")) {
      event.preventDefault();
      if (event.shiftKey && this.current) this.choose(this.current, seq);
      else { this.range = null; this.current = seq; this.remember(); this.draw(); }
    } else if (getSelection().isCollapsed) this.show(seq);
  }
  async show(seq) {
    this.current = seq;
    this.draw();
    const { items: [line] } = await this.get(`?after=${seq - 1}&limit=1`);
    if (!line) return;
    const about = [`Line ${line.seq.toLocaleString("en")}`, line.kind, line.at.replace("T", " ").replace("Z", " UTC"), `attempt ${line.attempt}`, ...(line.turn ? [`turn ${line.turn}`] : [])];
    const parts = [make("pre", { textContent: visible(line.text) })];
    if (line.event) parts.push(make("pre", { textContent: JSON.stringify(line.event, null, 2) }));
    this.panel.replaceChildren(
      make("div", { className: "acts" }, make("span", { className: "note", textContent: about.join(" · ") }),
        make("button", { type: "button", textContent: "Copy", onclick: () => navigator.clipboard.writeText(line.text) }),
        make("button", { type: "button", textContent: "Close", onclick: () => this.hide() })), ...parts);
    this.panel.hidden = false;
  }
  hide() { this.panel.hidden = true; this.range = null; this.draw(); this.view.focus(); }
  choose(one, other) {
    this.range = [Math.min(one, other), Math.max(one, other)];
    getSelection().removeAllRanges();
    this.hits.textContent = `${(this.range[1] - this.range[0] + 1).toLocaleString("en")} lines chosen: copy them by Ctrl+C`;
    this.draw();
  }
  async copy(event) {
    if (!this.range || !getSelection().isCollapsed || document.activeElement !== this.view) return;
    event.preventDefault();
    const [from, to] = this.range;
    if (to - from >= MAX_COPY) { this.hits.textContent = `More than ${MAX_COPY.toLocaleString("en")} lines: download the log`; return; }
    const texts = [];
    for (let after = from - 1; after < to;) {
      const { items } = await this.get(`?after=${after}&limit=${Math.min(5000, to - after)}`);
      if (!items.length) break;
      items.forEach((line) => texts.push(line.text));
      after = items.at(-1).seq;
    }
    await navigator.clipboard.writeText(texts.join("\n"));
    this.hits.textContent = `${texts.length.toLocaleString("en")} lines copied`;
  }
}

const root = document.getElementById("viewer");
if (root) root.viewer = new Viewer(root);
