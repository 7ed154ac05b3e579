// Starts `optio lsp` and connects the editor with it: findings, fixes, hover, completion, definitions.
"use strict";

const { commands, window, workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function start() {
  const settings = workspace.getConfiguration("optio");
  const tasks = settings.get("tasks");
  const folder = workspace.workspaceFolders?.[0]?.uri.fsPath;
  const server = { command: settings.get("command"), args: ["lsp"], options: { cwd: folder } };
  client = new LanguageClient("optio", "Optio", server, {
    // Prompt files are Markdown.
    documentSelector: ["yaml", "markdown"].map((language) => ({ scheme: "file", language, pattern: `**/${tasks}/**` })),
    initializationOptions: { tasks, strict: settings.get("strict"), verbose: settings.get("verbose") },
  });
  try {
    await client.start();
  } catch (error) {
    client = undefined;
    window.showErrorMessage(
      `Optio: \`${server.command} lsp\` did not start: ${error.message ?? error}. ` +
        "Install Optio with the extra `lsp`, or set `optio.command` to its path."
    );
  }
}

async function stop() {
  const last = client;
  client = undefined;
  await last?.stop();
}

async function restart() {
  await stop();
  await start();
}

async function activate(context) {
  context.subscriptions.push(
    commands.registerCommand("optio.restart", restart),
    workspace.onDidChangeConfiguration((change) => change.affectsConfiguration("optio") && restart())
  );
  await start();
}

module.exports = { activate, deactivate: stop };
