"""The program that reads secrets: what it is asked, what its answers mean, how long they count, and what is never shown."""

import os
import stat
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from optio.errors import SecretUnavailable, SettingsError
from optio.secrets.command import MAX_VALUE_BYTES, SecretCommand
from optio.secrets.local import LocalSecrets
from tests.executors.support import living
from tests.secrets.vault import PROGRAM, TOKEN, Vault
from tests.support import ROOT, eventually


def program(directory: Path, script: str) -> Path:
    path = directory / "read-secret"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def asking(
    *command: str | Path, timeout: float = 20.0, cache: float = 60.0, environ: Mapping[str, str] | None = None
) -> SecretCommand:
    environ = {"PATH": os.environ["PATH"], **(environ or {})}
    return SecretCommand([str(word) for word in command], timeout_s=timeout, cache_s=cache, environ=environ)


def problem(secrets: SecretCommand, name: str = "KEY") -> str:
    with pytest.raises(SecretUnavailable) as caught:
        secrets.get(name)
    return str(caught.value)


def test_the_name_is_the_last_argument_and_a_variable_and_no_setting_of_optio_is_passed_on(tmp_path: Path) -> None:
    script = program(tmp_path, 'echo "$*|$OPTIO_SECRET_NAME|$OPTIO_SECRET_OTHER|$OPTIO_TOKEN|$VAULT_ADDR"')
    environ = {"OPTIO_SECRET_OTHER": "another secret", "OPTIO_TOKEN": "a token", "VAULT_ADDR": "here"}

    value = asking(script, "--file", "a b", environ=environ).get("API_KEY")

    assert value == "--file a b API_KEY|API_KEY|||here"


@pytest.mark.parametrize(
    ("script", "value"),
    [("printf v", "v"), ("echo v", "v"), (r"printf 'v\n\n'", "v\n"), (r"printf ' a\nb '", " a\nb "), ("echo v; exit 3", None)],
)
def test_one_last_newline_is_dropped_and_3_means_no_such_secret(tmp_path: Path, script: str, value: str | None) -> None:
    assert asking(program(tmp_path, script)).get("KEY") == value


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'no route to host' >&2; exit 1", "exited with 1: no route to host"),
        ("exit 2", "exited with 2"),
        ("kill -9 $$", "was ended by SIGKILL"),
        ("true | cat", "printed nothing: it must print the value, or exit with 3 if there is no such secret"),
        (r"printf '\377\376'", "printed bytes that are not UTF-8"),
        ("exec yes", f"printed more than {MAX_VALUE_BYTES:,} bytes"),
    ],
)
def test_any_other_end_means_that_the_source_is_unavailable(tmp_path: Path, script: str, why: str) -> None:
    assert problem(asking(program(tmp_path, script))) == f"the secret `KEY` cannot be read: `read-secret` {why}"


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    began = time.monotonic()

    found = problem(asking(program(tmp_path, "sleep 60.1357 & echo half; wait"), timeout=0.3))

    assert found.endswith("gave no answer within 0.3 s (OPTIO_SECRET_TIMEOUT)")
    assert time.monotonic() - began < 20
    assert eventually(lambda: not living("60.1357"))


def test_a_descendant_that_holds_the_output_open_delays_no_answer(tmp_path: Path) -> None:
    secrets = asking(program(tmp_path, f"sleep 60.2468 & echo $! > {tmp_path}/pid; echo value"))

    assert secrets.get("KEY") == "value"

    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_a_complaint_shows_no_value_no_credential_and_only_its_end(tmp_path: Path) -> None:
    script = program(
        tmp_path,
        'if [ "$1" = OTHER ]; then echo the-other-value; exit; fi\n'
        "seq 1000 >&2; echo the-half-value\n"
        "printf 'token %s\\n\\033[31mvalue %s %s end\\n' \"$VAULT_TOKEN\" the-other-value the-half-value >&2; exit 1",
    )
    secrets = asking(script, environ={"VAULT_TOKEN": "hvs.credential"})
    assert secrets.get("OTHER") == "the-other-value"

    found = problem(secrets)

    assert found.endswith("999 1000 token *** [31mvalue *** *** end")
    assert "\033" not in found
    assert ": ..." in found
    assert len(found) < 400


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "is not found: there is no such file"),
        (lambda path: path.write_text("#!/bin/sh\n"), "is not executable: `chmod +x` it"),
        (lambda path: path.mkdir(), "is not found: there is no such file"),
    ],
)
def test_a_program_that_cannot_be_executed_is_refused_at_the_start(tmp_path: Path, make: object, why: str) -> None:
    make(tmp_path / "reader")  # type: ignore[operator]

    with pytest.raises(SettingsError) as caught:
        asking(tmp_path / "reader")
    assert str(caught.value).endswith(why)


def test_a_program_that_is_not_on_the_path_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsError) as caught:
        asking("no-such-reader")
    assert str(caught.value) == "OPTIO_SECRET_COMMAND: the program `no-such-reader` is not found: it is not on PATH"


def test_a_script_without_a_first_line_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "reader"
    path.write_text("echo value\n")
    path.chmod(0o755)

    assert problem(asking(path)).endswith("cannot be executed (Exec format error): a script begins with `#!/bin/sh`")


def test_many_that_ask_at_once_run_the_program_once(tmp_path: Path) -> None:
    script = program(tmp_path, f'echo "$1" >> {tmp_path}/calls; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo v-$1')
    secrets = asking(script)
    begun = threading.Barrier(21)

    def ask(number: int) -> str | None:
        begun.wait()
        return secrets.get(f"KEY_{number % 2}")

    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(ask, number) for number in range(20)]
        begun.wait()
        eventually(lambda: (tmp_path / "calls").exists() and len((tmp_path / "calls").read_text().split()) == 2)
        (tmp_path / "go").touch()
        found = [answer.result(20) for answer in answers]

    assert found == ["v-KEY_0", "v-KEY_1"] * 10
    assert sorted((tmp_path / "calls").read_text().split()) == ["KEY_0", "KEY_1"]


def test_a_value_is_kept_for_the_set_time_and_a_rotated_one_counts_after_it(vault: Vault) -> None:
    vault.values["KEY"] = "first-value"
    secrets = asking(PROGRAM, cache=2.0, environ=vault.environ)
    began = time.monotonic()
    assert secrets.get("KEY") == "first-value"
    vault.values["KEY"] = "second-value"

    assert secrets.get("KEY") == "first-value" or time.monotonic() - began > 2
    assert secrets.is_at_hand("KEY") or time.monotonic() - began > 2

    assert eventually(lambda: secrets.get("KEY") == "second-value")
    assert time.monotonic() - began >= 2
    assert vault.asked == ["KEY", "KEY"]


def test_the_vault_s_answers_mean_a_value_no_such_secret_or_wait(vault: Vault) -> None:
    vault.values["KEY"] = "a value\nof two lines"
    secrets = asking(PROGRAM, environ=vault.environ)

    assert (secrets.get("KEY"), secrets.get("MISSING")) == ("a value\nof two lines", None)
    vault.status = 503
    assert problem(secrets, "OTHER") == (
        'the secret `OTHER` cannot be read: `vault.py` exited with 1: Vault answers 503: {"errors": ["Vault is sealed"]}'
    )
    vault.status = 200
    refused = asking(PROGRAM, environ={**vault.environ, "VAULT_TOKEN": "hvs.another-token"})
    assert problem(refused).endswith('Vault answers 403: {"errors": ["permission denied"]}')


def test_a_vault_that_is_away_or_hangs_is_unavailable(vault: Vault) -> None:
    away = asking(PROGRAM, environ={**vault.environ, "VAULT_ADDR": "http://127.0.0.1:1"})
    vault.open.clear()
    hanging = asking(PROGRAM, timeout=2.0, environ=vault.environ)

    assert "Vault gives no answer: " in problem(away)
    assert problem(hanging).endswith("gave no answer within 2 s (OPTIO_SECRET_TIMEOUT)")
    assert TOKEN not in problem(away) + problem(hanging)


def test_a_failure_is_remembered_for_a_moment_and_not_for_as_long_as_a_value(tmp_path: Path) -> None:
    script = program(tmp_path, f"echo call >> {tmp_path}/calls; test -e {tmp_path}/up && echo value")
    secrets = asking(script, cache=3600)
    began = time.monotonic()
    problem(secrets)
    (tmp_path / "up").touch()

    assert secrets.is_at_hand("KEY") or time.monotonic() - began > 4
    eventually(lambda: not secrets.is_at_hand("KEY"))
    assert secrets.get("KEY") == "value"
    assert 4 < time.monotonic() - began < 60
    assert len((tmp_path / "calls").read_text().split()) == 2


def test_a_variable_and_a_file_come_before_the_program_and_are_at_hand(tmp_path: Path) -> None:
    script = program(tmp_path, "echo from-the-program")
    (tmp_path / "FILE").write_text("from the file")
    environ = {"OPTIO_SECRET_VARIABLE": "from the variable", "OPTIO_SECRET_COMMAND": str(script), "OPTIO_SECRET_CACHE": "60s"}
    secrets = LocalSecrets(tmp_path, environ, asking(script))

    hands = {name: secrets.is_at_hand(name) for name in ("VARIABLE", "FILE", "ELSE", "../FILE")}
    values = [secrets.get(name) for name in ("VARIABLE", "FILE", "ELSE", "COMMAND", "CACHE", "../FILE")]

    assert hands == {"VARIABLE": True, "FILE": True, "ELSE": False, "../FILE": True}
    assert values == ["from the variable", "from the file", *["from-the-program"] * 3, None]
    assert secrets.is_at_hand("ELSE")
    assert [secrets.stored(name) for name in ("VARIABLE", "FILE", "ELSE")] == [None, "from the file", None]
    assert secrets.where("X").endswith(f", or let {script} (OPTIO_SECRET_COMMAND) print it")


def test_no_value_of_the_program_is_written_to_a_file(tmp_path: Path, vault: Vault) -> None:
    vault.values["KEY"] = "value-of-the-vault"
    secrets = LocalSecrets(tmp_path / "secrets", {}, asking(PROGRAM, environ={**vault.environ, "HOME": str(tmp_path)}))

    assert secrets.get("KEY") == "value-of-the-vault"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "deploy" / "secrets").iterdir()), ids=lambda path: path.name)
def test_each_program_that_comes_with_optio_can_be_executed(path: Path) -> None:
    if path.suffix == ".md":
        return
    assert path.stat().st_mode & stat.S_IXUSR
    assert path.read_text().startswith("#!")
