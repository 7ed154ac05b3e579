// Runs the extension without a window: a stand-in for VS Code's API, around the real client library and the real server.
//
//     node vscode_host.js EXTENSION MODULES FOLDER FILE COMMAND
//
// opens FILE, prints a line of JSON for each set of findings that the client shows, and for each message to the user; it ends when
// its standard input does.
"use strict";

const fs = require("fs");
const Module = require("module");
const path = require("path");
const { pathToFileURL, fileURLToPath } = require("url");

const [extension, modules, folder, file, command] = process.argv.slice(2);
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const nothing = { dispose() {} };

class Uri {
  constructor(text) { this.text = text; this.scheme = text.split(":")[0]; this.path = decodeURI(new URL(text).pathname); }
  static parse(text) { return new Uri(text); }
  static file(name) { return new Uri(pathToFileURL(name).href); }
  get fsPath() { return fileURLToPath(this.text); }
  toString() { return this.text; }
}
class Position { constructor(line, character) { Object.assign(this, { line, character }); } }
class Range {
  constructor(a, b, c, d) {
    this.start = a instanceof Position ? a : new Position(a, b);
    this.end = a instanceof Position ? b : new Position(c, d);
  }
}
class Diagnostic { constructor(range, message, severity) { Object.assign(this, { range, message, severity }); } }
class Disposable {
  constructor(end) { this.end = end; }
  static from(...all) { return new Disposable(() => all.forEach((each) => each.dispose())); }
  dispose() { this.end?.(); }
}
class EventEmitter {
  constructor() {
    this.heard = new Set();
    this.event = (listener, self) => {
      const bound = self ? listener.bind(self) : listener;
      this.heard.add(bound);
      return new Disposable(() => this.heard.delete(bound));
    };
  }
  fire(value) { this.heard.forEach((listener) => listener(value)); }
  dispose() { this.heard.clear(); }
}
class CancellationTokenSource {
  constructor() { this.token = { isCancellationRequested: false, onCancellationRequested: () => nothing }; }
  cancel() {}
  dispose() {}
}

class Kind {
  constructor(value) { this.value = value; }
  append(part) { return new Kind(this.value ? `${this.value}.${part}` : part); }
}

// What is not named: an event, a registration, a class to extend or an enumeration, by how its name begins.
const rest = (known) => new Proxy(known, {
  get(target, name) {
    if (name in target || typeof name === "symbol") return target[name];
    if (/^(on|register)[A-Z]/.test(name)) return (target[name] = () => new Disposable());
    if (/^[A-Z]/.test(name)) {
      const made = class { constructor(...given) { this.given = given; } };
      return (target[name] = new Proxy(made, { get: (kind, key) => (key in kind || typeof key === "symbol" ? kind[key] : kind) }));
    }
    return undefined;
  },
});

const document = {
  uri: Uri.file(file), fileName: file, languageId: "yaml", version: 1, isDirty: false, isClosed: false,
  getText: () => fs.readFileSync(file, "utf8"),
};
const settings = { command, tasks: "tasks.d", strict: false, verbose: false };
const vscode = rest({
  version: "1.82.0", Uri, Position, Range, Diagnostic, Disposable, EventEmitter, CancellationTokenSource,
  DiagnosticSeverity: { Error: 0, Warning: 1, Information: 2, Hint: 3 },
  CodeActionKind: new Proxy({}, { get: () => new Kind("") }),
  env: { appName: "test", language: "en" },
  workspace: rest({
    textDocuments: [document], notebookDocuments: [], isTrusted: true,
    workspaceFolders: [{ uri: Uri.file(folder), name: "folder", index: 0 }],
    getConfiguration: (section) => ({ get: (name, other) => (section === "optio" ? settings[name] : other) }),
    getWorkspaceFolder: () => undefined,
    createFileSystemWatcher: () => rest({ dispose() {} }),
    asRelativePath: String,
  }),
  window: rest({
    visibleTextEditors: [], activeTextEditor: undefined,
    createOutputChannel: () => ({ append() {}, appendLine() {}, show() {}, dispose() {}, clear() {} }),
    showErrorMessage: (message) => { say({ error: message }); return Promise.resolve(); },
    withProgress: (_, work) => work({ report() {} }, new CancellationTokenSource().token),
    tabGroups: rest({ all: [] }),
  }),
  languages: rest({
    match: (selector) => (selector.some?.((each) => each.language === "yaml") ?? true ? 10 : 0),
    createDiagnosticCollection: () => ({
      set: (uri, found) => say({ file: path.relative(folder, uri.fsPath), findings: found.map(({ message, code }) => ({ message, code })) }),
      delete() {}, clear() {}, dispose() {}, has: () => false,
    }),
  }),
  commands: rest({ registerCommand: () => nothing, executeCommand: async () => {} }),
  extensions: rest({ getExtension: () => undefined }),
});

const load = Module._load;
Module._load = (name, ...more) => (name === "vscode" ? vscode : load(name, ...more));
process.env.NODE_PATH = modules;
Module._initPaths();

const { activate, deactivate } = require(extension);
activate({ subscriptions: [] }).then(() => say({ started: true }));
process.stdin.resume().on("end", () => deactivate().then(() => process.exit(0)));
