// The editor of a task file: CodeMirror over the page's own text field, and a check of the form while you type. The server renders
// findings and effects; this script sends the form and puts in the parts that come back.
import {
  EditorState, EditorView, HighlightStyle, bracketMatching, defaultKeymap, drawSelection, foldGutter, foldKeymap,
  highlightActiveLine, highlightSelectionMatches, highlightSpecialChars, history, historyKeymap, indentOnInput, indentUnit,
  keymap, lineNumbers, lintKeymap, search, searchKeymap, setDiagnostics, syntaxHighlighting, tags, yaml,
} from "./vendor/codemirror.js";

const QUIET_MS = 350;
const form = document.getElementById("draft");
const area = document.getElementById("text");
const state = document.getElementById("editor-state");
let timer = 0;
let asked = null;

// Colours come from the page's own properties, which reach into the shadow tree.
const theme = EditorView.theme({
  "&": { fontSize: "13px", color: "var(--ink)", backgroundColor: "var(--ground)", border: "1px solid var(--line)", borderRadius: "6px" },
  "&.cm-focused": { outline: "2px solid var(--accent)" },
  ".cm-scroller": { fontFamily: "var(--mono)", minHeight: "420px", maxHeight: "75vh" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": { backgroundColor: "var(--raised)", color: "var(--soft)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--raised) 70%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "color-mix(in srgb, var(--accent) 30%, transparent)",
  },
  // CodeMirror draws these by images of its own, which the page's policy forbids.
  ".cm-lintRange": { backgroundImage: "none", textDecoration: "underline wavy 1px", textUnderlineOffset: "3px" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecorationColor: "var(--bad)" },
  ".cm-lintRange-warning, .cm-lintRange-info": { backgroundImage: "none", textDecorationColor: "var(--wait)" },
  ".cm-panels, .cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--ink)", borderColor: "var(--line)" },
  ".cm-textfield, .cm-button": { backgroundColor: "var(--ground)", backgroundImage: "none", color: "var(--ink)", borderColor: "var(--line)" },
});
const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--good)" },
  { tag: tags.comment, color: "var(--soft)", fontStyle: "italic" },
  { tag: [tags.keyword, tags.number, tags.bool, tags.atom], color: "var(--run)" },
]);

function start() {
  const host = document.createElement("div");
  host.id = "editor";
  // In a shadow tree CodeMirror makes its style sheets by script, which the page's policy allows; in the document it would not.
  const root = host.attachShadow({ mode: "open" });
  area.before(host);
  // The page's own keys are not for somebody who types here: outside of the shadow tree, the host looks like no text field.
  host.addEventListener("keydown", (event) => event.stopPropagation());
  const view = new EditorView({
    parent: root,
    root,
    state: EditorState.create({
      doc: area.value,
      extensions: [
        lineNumbers(), foldGutter(), history(), drawSelection(), indentOnInput(), bracketMatching(), highlightActiveLine(),
        highlightSelectionMatches(), highlightSpecialChars(), search({ top: true }), indentUnit.of("  "), EditorState.tabSize.of(2),
        keymap.of([...defaultKeymap, ...historyKeymap, ...searchKeymap, ...foldKeymap, ...lintKeymap]),
        yaml(), theme, syntaxHighlighting(colours), EditorView.lineWrapping,
        EditorView.contentAttributes.of({ "aria-label": "YAML of the task", tabindex: "0", spellcheck: "false" }),
        EditorView.updateListener.of((update) => {
          if (!update.docChanged) return;
          area.value = update.state.doc.toString();
          if (!update.transactions.some((each) => each.isUserEvent("form"))) checkSoon();
        }),
      ],
    }),
  });
  area.hidden = true;
  document.querySelector('label[for="text"]').addEventListener("click", () => view.focus());
  mark(view);
  document.getElementById("fields").addEventListener("input", () => checkSoon());
  document.getElementById("findings").parentElement.addEventListener("click", (event) => {
    const line = event.target.closest("[data-line]");
    if (!line) return;
    view.dispatch({ selection: { anchor: place(view.state.doc, line.dataset.line, line.dataset.column) }, scrollIntoView: true });
    view.focus();
  });
  return view;
}

const view = start();
// A field may have been filled before this script was there.
const was = JSON.parse(document.getElementById("was").value);
if ([...document.querySelectorAll("#fields [name]")].some((each) => each.value !== (was[each.name.slice(2)] ?? ""))) checkSoon();

function checkSoon() {
  state.textContent = "checking";
  clearTimeout(timer);
  timer = setTimeout(check, QUIET_MS);
}

// The answer is parsed as a document of its own, in which no script runs.
function check() {
  asked?.abort();
  const sent = new URLSearchParams(new FormData(form));
  sent.set("act", "check");
  const request = asked = new XMLHttpRequest();
  request.open("POST", form.action);
  request.responseType = "document";
  request.onload = () => {
    const fresh = request.response;
    if (!fresh?.getElementById("draft")) {
      state.textContent = request.status === 401 ? "signed out: send the form to sign in, nothing is lost" : "cannot be checked";
      return;
    }
    for (const id of ["findings", "plan"]) document.getElementById(id).replaceWith(fresh.getElementById(id));
    take(fresh, sent);
    const problem = fresh.querySelector("main > .problem");
    state.textContent = problem ? problem.textContent : "checked";
    mark(view);
  };
  request.onerror = () => { state.textContent = "the server is away"; };
  request.send(sent);
}

// What the form changed in the text, and the text in the form, where nobody has typed since it was sent.
function take(fresh, sent) {
  const text = fresh.getElementById("text").value;
  if (text !== area.value && area.value === sent.get("text")) replace(text);
  for (const field of fresh.querySelectorAll("#fields [name]")) {
    const mine = form.elements[field.name];
    if (mine && mine !== document.activeElement && mine.value === sent.get(field.name) && mine.value !== field.value) mine.value = field.value;
  }
  document.getElementById("was").value = fresh.getElementById("was").value;
}

// Only the part that differs is replaced, so that the cursor and the folds stay.
function replace(text) {
  const old = view.state.doc.toString();
  let from = 0;
  while (from < Math.min(old.length, text.length) && old[from] === text[from]) from += 1;
  let end = 0;
  while (end < Math.min(old.length, text.length) - from && old[old.length - 1 - end] === text[text.length - 1 - end]) end += 1;
  view.dispatch({ changes: { from, to: old.length - end, insert: text.slice(from, text.length - end) }, userEvent: "form" });
}

// Columns count code points; the editor counts UTF-16 units.
function place(doc, line, column) {
  const found = doc.line(Math.min(Math.max(Number(line), 1), doc.lines));
  const before = [...found.text].slice(0, Number(column) - 1).join("");
  return found.from + before.length;
}

function mark(view) {
  const doc = view.state.doc;
  const found = [...document.querySelectorAll("#findings [data-line]")].map((each) => {
    const from = place(doc, each.dataset.line, each.dataset.column);
    const to = place(doc, each.dataset.endLine, each.dataset.endColumn);
    const note = each.querySelector(".note");
    const message = each.querySelector(".said-by").textContent + (note ? `\n${note.textContent}` : "");
    return { from, to: Math.max(from, to), severity: each.className, message };
  });
  found.sort((one, other) => one.from - other.from);
  view.dispatch(setDiagnostics(view.state, found));
}
