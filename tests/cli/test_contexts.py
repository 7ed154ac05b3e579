"""`--context`, `optio login`, `logout` and `context`, against real servers: which server is asked, and who gets which token."""

import json
import os
import pty
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from optio.cli.shared import contexts
from optio.errors import SettingsError
from tests.cli.conftest import Shell
from tests.support import Dev

SECRET = "optio_" + "0123456789abcdef" * 2


class Listener:
    """A server that writes down the token of each request, and answers as an empty list of runs."""

    def __init__(self) -> None:
        self.tokens: list[str | None] = []
        self.redirect: str | None = None
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.tokens.append(self.headers.get("Authorization"))
                body = b'{"items": [], "next": null}'
                self.send_response(302 if listener.redirect else 200)
                if listener.redirect:
                    self.send_header("Location", listener.redirect)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def one() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def two() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


LIST = ("runs", "list")


def login(shell: Shell, listener: Listener, *more: str) -> "subprocess.CompletedProcess[str]":
    return shell("login", listener.url, "--token-file", "-", *more, stdin=f"{SECRET}\n")


def test_a_project_names_its_servers_and_a_login_brings_the_token(shell: Shell, one: Listener, two: Listener) -> None:
    shell.write("optio.toml", f'default_context = "a"\n[contexts]\na.url = "{one.url}"\nb.url = "{two.url}"\n')
    (shell.directory / "deep" / "er").mkdir(parents=True)
    below = Shell(shell.directory / "deep" / "er")
    mine = {"XDG_CONFIG_HOME": shell.environment()["XDG_CONFIG_HOME"]}

    assert login(shell, one, "--context", "mine").returncode == 0
    assert below(*LIST, environ=mine).stdout == "no runs\n"
    assert below(*LIST, "--context", "b", environ=mine).returncode == 0
    assert below(*LIST, environ={**mine, "OPTIO_CONTEXT": "b"}).returncode == 0

    assert one.tokens == [f"Bearer {SECRET}"] * 2  # its check, and the list
    assert two.tokens == [None, None]


def test_a_flag_goes_before_a_variable_and_a_variable_before_a_file(shell: Shell, one: Listener, two: Listener) -> None:
    shell.write(
        "pyproject.toml", f'[tool.optio]\ndefault_context = "a"\ncontexts.a.url = "{one.url}"\ncontexts.b.url = "{two.url}"\n'
    )

    shell(*LIST, environ={"OPTIO_URL": two.url, "OPTIO_TOKEN": "of-the-variable"})
    shell(*LIST, "--url", one.url, environ={"OPTIO_URL": two.url, "OPTIO_TOKEN": "of-the-variable"})
    shell(*LIST, "--context", "a", environ={"OPTIO_CONTEXT": "b"})
    both = shell(*LIST, "--context", "a", "--url", two.url)

    assert two.tokens == ["Bearer of-the-variable"]
    assert one.tokens == ["Bearer of-the-variable", None]
    assert (both.returncode, both.stderr) == (2, "optio runs: --context and --url name different servers: leave one out\n")


def test_a_token_of_a_context_is_not_sent_to_another_server(shell: Shell, one: Listener, two: Listener) -> None:
    shell.write("token", SECRET).chmod(0o600)
    shell.write(
        "config/optio/config.toml", f'default_context = "a"\n[contexts.a]\nurl = "{one.url}"\ntoken_file = "../../token"\n'
    )
    login(shell, one)

    shell(*LIST, "--url", two.url)
    shell(*LIST, environ={"OPTIO_URL": two.url})
    shell.write("optio.toml", f'default_context = "a"\ncontexts.a.url = "{two.url}"\n')
    shell(*LIST)

    assert two.tokens == [None, None, None]


@pytest.mark.parametrize("chosen", [[], ["--context", "a"]])
def test_no_token_of_a_variable_or_flag_is_sent_where_only_a_repository_says_so(
    shell: Shell, one: Listener, chosen: list[str]
) -> None:
    shell.write("optio.toml", f'default_context = "a"\ncontexts.a.url = "{one.url}"\n')

    by_variable = shell(*LIST, *chosen, environ={"OPTIO_TOKEN": SECRET})
    by_flag = shell(*LIST, *chosen, "--token", SECRET)
    meant = shell(*LIST, *chosen, environ={"OPTIO_TOKEN": SECRET, "OPTIO_URL": one.url})

    for refused, name in ((by_variable, "OPTIO_TOKEN"), (by_flag, "--token")):
        assert refused.returncode == 2
        assert f"names the server {one.url}, and {name} may be meant for another: set OPTIO_URL too" in refused.stderr
        assert SECRET not in refused.stderr
    assert (meant.returncode, one.tokens) == (0, [f"Bearer {SECRET}"])


def test_a_token_does_not_follow_a_redirect(shell: Shell, one: Listener, two: Listener) -> None:
    two.redirect = f"{one.url}/api/runs"

    done = shell(*LIST, "--url", two.url, environ={"OPTIO_TOKEN": SECRET})

    assert done.returncode == 1
    assert done.stderr == f"optio runs: the server answered 302 and names {one.url}/api/runs: if you trust it, give --url\n"
    assert (two.tokens, one.tokens) == ([f"Bearer {SECRET}"], [])


def test_a_token_comes_from_a_file_or_a_command_of_your_own_configuration(shell: Shell, one: Listener) -> None:
    shell.write("token", f"{SECRET}\n").chmod(0o600)
    program = shell.write("program", f"#!/bin/sh\necho {SECRET}-of-$1\n")
    program.chmod(0o700)
    shell.write(
        "config/optio/config.toml",
        f'[contexts.a]\nurl = "{one.url}"\ntoken_file = "../../token"\n'
        f'[contexts.b]\nurl = "{one.url}"\ntoken_command = ["{program}", "b"]\n'
        f'[contexts.c]\nurl = "{one.url}"\ntoken_command = "{program} c"\n',
    )

    done = [shell(*LIST, "--context", name) for name in "abc"]

    assert one.tokens == [f"Bearer {SECRET}", f"Bearer {SECRET}-of-b", f"Bearer {SECRET}-of-c"]
    assert all(SECRET not in each.stdout + each.stderr for each in done)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[contexts.a]\nurl = "http://x"\ntoken_command = "touch ran"\n',
            "a project may not name a token_command, which would run",
        ),
        ('[contexts.a]\nurl = "http://x"\ntoken_file = "../secret"\n', "the token_file of a project must lie in its directory"),
        ('[contexts.a]\nurl = "http://x"\ntoken_file = "link"\n', "the token_file of a project must lie in its directory"),
        ('[contexts.a]\nurl = "x"\n', "contexts.a: url must be a URL that begins with http:// or https://"),
        ('[contexts.a]\nurl = "http://x"\nurk = 1\n', "contexts.a: unknown key `urk`: write url, token_file or token_command"),
        ('[contexts.local]\nurl = "http://x"\n', "`local` stands for the server of this machine"),
        (
            'default_context = "b"\ncontexts.a1.url = "http://x"\n',
            "optio.toml: default_context: unknown context `b`: there are `a1`",
        ),
        ("contexts = 1\n", "optio.toml: contexts must be tables"),
        ("[contexts\n", "optio.toml is not valid TOML: "),
    ],
)
def test_a_file_that_cannot_be_used_or_trusted_is_refused(shell: Shell, text: str, said: str) -> None:
    project = Shell(shell.directory / "project")
    project.write("optio.toml", text)
    shell.write("secret", SECRET)
    (project.directory / "link").symlink_to(shell.directory / "secret")

    done = project(*LIST)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert SECRET not in done.stderr
    assert not (project.directory / "ran").exists()
    assert project(*LIST, "--context", "local").returncode == 1  # nobody serves here


@pytest.mark.parametrize(
    ("name", "said"),
    [("prdo", "--context: unknown context `prdo`: did you mean `prod`?"), ("x", "unknown context `x`: there are `prod`")],
)
def test_an_unknown_context_names_those_there_are(shell: Shell, one: Listener, name: str, said: str) -> None:
    login(shell, one, "--context", "prod")

    done = shell(*LIST, "--context", name)

    assert done.returncode == 2
    assert said in done.stderr


def test_a_login_is_checked_kept_for_its_user_alone_listed_without_the_token_and_forgotten(shell: Shell, one: Listener) -> None:
    done = login(shell, one, "--context", "prod")
    kept = shell.directory / "config" / "optio" / "logins.json"

    listed, document = shell("context"), json.loads(shell("context", "--json").stdout)
    forgotten = shell("logout")

    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert f"logged in to {one.url} as the context `prod`" in done.stdout
    assert listed.stdout.splitlines()[1].split() == ["*", "prod", one.url, "login", str(kept)]
    assert document["items"][0]["token"] == "login"
    assert all(SECRET not in each.stdout + each.stderr for each in (done, listed, forgotten))
    assert SECRET not in kept.read_text()
    assert shell("context").stdout.startswith("no contexts: `optio login URL` makes one")
    assert shell("logout").returncode == 2


def test_a_token_that_the_server_refuses_is_not_kept(served: Dev, shell: Shell) -> None:
    done = shell("login", served.url, "--token-file", "-", stdin="optio_wrong\n")

    assert done.returncode == 1
    assert "create another with `optio token create`" in done.stderr
    assert not (shell.directory / "config").exists()


def test_the_token_is_asked_for_without_showing_it(shell: Shell, one: Listener) -> None:
    child, controlling = pty.fork()
    if child == 0:
        os.chdir(shell.directory)
        os.execve(sys.executable, [sys.executable, "-m", "optio", "login", one.url], shell.environment())  # noqa: S606
    seen = b""
    while b"(not shown): " not in seen:
        seen += os.read(controlling, 1000)
    os.write(controlling, SECRET.encode() + b"\n")
    while True:
        try:
            part = os.read(controlling, 1000)
        except OSError:
            break
        if not part:
            break
        seen += part
    _, status = os.waitpid(child, 0)
    os.close(controlling)

    assert os.waitstatus_to_exitcode(status) == 0, seen
    assert b"logged in to" in seen
    assert SECRET.encode() not in seen


def test_the_default_is_chosen_by_name_and_local_is_this_machine(shell: Shell, one: Listener, two: Listener) -> None:
    login(shell, one, "--context", "a")
    login(shell, two, "--context", "b")
    one.tokens.clear()
    two.tokens.clear()

    shell(*LIST)
    used = shell("context", "use", "b")
    shell(*LIST)
    unknown = shell("context", "use", "c")
    local = shell(*LIST, "--context", "local")

    assert (len(one.tokens), len(two.tokens)) == (1, 1)
    assert used.stdout == "commands talk to `b` from now on\n"
    assert "unknown context `c`: there are `a`, `b`, `local`" in unknown.stderr
    assert "no server answers at http://127.0.0.1:" in local.stderr


def test_a_user_without_a_home_has_no_contexts_and_no_relative_path_is_one(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(shell.directory)
    shell.write("relative/optio/config.toml", 'default_context = "a"\ncontexts.a.url = "http://x"\n')
    shell.write("~/.config/optio/config.toml", 'default_context = "a"\ncontexts.a.url = "http://x"\n')

    assert contexts.read_contexts() == ({}, None, None)
    with pytest.raises(SettingsError, match="set XDG_CONFIG_HOME to an absolute path"):
        contexts.write_logins({})
