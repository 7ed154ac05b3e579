"""The real agent CLIs, as `tests/setup.sh` installs them, on a scripted model: settings, task files and the server."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optio.model.registry import CompiledTask
from tests.support import CLAUDE, ROOT, compiled

PROGRAMS = {
    "claude-code": CLAUDE,
    **{agent: ROOT / ".tools" / "bin" / agent for agent in ("codex", "copilot", "gemini", "opencode")},
}
AGENTS = list(PROGRAMS)
KEYS = {
    "claude-code": "ANTHROPIC_API_KEY",
    "codex": "CODEX_API_KEY",
    "copilot": "COPILOT_PROVIDER_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "opencode": "STUB_API_KEY",
}
KEY = "sk-test-canary-0123456789"
# What Copilot else unpacks, 235 MB, into each new home directory.
UNPACKED = (ROOT / ".tools" / "copilot" / "unpacked").resolve()
# Where the Node of Gemini and of Copilot keeps what it has compiled of them: a fifth of the CPU time of a later start.
COMPILED = (ROOT / ".tools").resolve() / "compiled"
# What OpenCode else reads at each start, which takes a fifth of its CPU time: all models of all providers, and none of ours.
NO_MODELS = ROOT / "tests" / "data" / "no-models.json"
# Claude Code and OpenCode run on Bun, whose optimizing compiler serves programs that run for longer. Without it and without
# garbage collection, a run of OpenCode takes 2.7 s of CPU time instead of 4.6, and 230 MB more memory.
SPARED = {
    "claude-code": {"BUN_JSC_useDFGJIT": "0", "BUN_JSC_useGC": "0"},
    "copilot": {"COPILOT_PKG_CACHE_HOME": str(UNPACKED), "NODE_COMPILE_CACHE": str(COMPILED)},
    "gemini": {"NODE_COMPILE_CACHE": str(COMPILED)},
    "opencode": {"OPENCODE_MODELS_PATH": str(NO_MODELS), "BUN_JSC_useDFGJIT": "0", "BUN_JSC_useGC": "0"},
}
DONE = "The command has run. Done."
# Claude Code and Gemini put the version of the protocol behind an endpoint by themselves.
_VERSIONS = {"claude-code": "", "gemini": ""}
_TASK = """\
type: standalone
name: "{name}"
agentRuntime: {agent}
model: {model}
promptTemplate: "{prompt}"
timeout: 200s
environment: {{secrets: [{key}], env: {env}, network: {network}}}
{extra}"""


@dataclass
class Model:
    """A running model server. It plays the scenario that a model is named after."""

    url: str

    def requests(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/_stub/requests") as answer:
            found: list[dict[str, Any]] = json.load(answer)["requests"]
        return found

    def reset(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/_stub/requests", method="DELETE")).close()

    def hold(self) -> None:
        """Make conversations wait in their middle: before the answer to a second tool result, or within a slow answer."""
        urllib.request.urlopen(f"{self.url}/_stub/hold", data=b"").close()

    def step(self) -> None:
        """Let those that wait go on to the next such place."""
        urllib.request.urlopen(f"{self.url}/_stub/next", data=b"").close()

    def release(self) -> None:
        urllib.request.urlopen(f"{self.url}/_stub/go", data=b"").close()

    def heal(self) -> None:
        """Let the scenario late-CODE fail no more."""
        urllib.request.urlopen(f"{self.url}/_stub/heal", data=b"").close()


@contextlib.contextmanager
def model_server(host: str = "127.0.0.1", port: int = 0) -> Iterator[Model]:
    command = [sys.executable, str(ROOT / "tests" / "model_server.py"), "--host", host, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield Model(process.stdout.readline().split()[-1])
        finally:
            process.kill()


def endpoints_of(url: str) -> dict[str, str]:
    """Settings of Optio by which each agent asks the model at this address, with the secrets for that."""
    found = {f"OPTIO_SECRET_{key}": KEY for key in KEYS.values()}
    for agent in AGENTS:
        endpoint = "OPTIO_ANTHROPIC_BASE_URL" if agent == "claude-code" else f"OPTIO_ENDPOINT_{agent.upper()}"
        found[endpoint] = url + _VERSIONS.get(agent, "/v1")
    return found


def environ_of(url: str) -> dict[str, str]:
    """The same, and by which each agent is found on this machine."""
    for program in (*PROGRAMS.values(), UNPACKED):
        assert program.exists(), f"{program} is missing: run `bash tests/setup.sh`, which installs it"
    programs = {f"OPTIO_PROGRAM_{agent.upper().replace('-', '_')}": str(program) for agent, program in PROGRAMS.items()}
    COMPILED.mkdir(exist_ok=True)
    COMPILED.chmod(0o1777)
    paths = {
        "OPTIO_SANDBOX": "namespaces",
        "OPTIO_SANDBOX_READ": f"{UNPACKED},{NO_MODELS}",
        "OPTIO_SANDBOX_WRITE": str(COMPILED),
    }
    return {**endpoints_of(url), **programs, **paths}


def task_text(
    agent: str,
    model: str,
    extra: str = "maxRetries: 0\n",
    prompt: str = "hello",
    *,
    egress: list[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """The file of a task of an agent, named after its model. OpenCode wants the provider in front of that."""
    return _TASK.format(
        name=f"{agent} {model}",
        agent=agent,
        key=KEYS[agent],
        model=f"stub/{model}" if agent == "opencode" else model,
        prompt=prompt,
        env=json.dumps(env or {}),
        network=json.dumps(None if egress is None else {"egress": egress}),
        extra=extra,
    )


def task(agent: str, model: str, extra: str = "maxRetries: 0\n", prompt: str = "hello", **env: str) -> CompiledTask:
    return compiled(task_text(agent, model, extra, prompt, env=SPARED.get(agent, {}) | env))
