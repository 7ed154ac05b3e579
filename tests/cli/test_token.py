"""`optio token create --from-file`: a token that whoever installs Optio has made already."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

from tests.cli.conftest import Shell

SECRET = "optio_" + "0123456789abcdef" * 3
CREATE = ("token", "create", "--role", "admin", "--from-file", "file")


def ids(shell: Shell) -> list[str]:
    return [each["id"] for each in json.loads(shell("token", "list", "--json").stdout)]


def test_the_token_of_a_file_is_made_once_and_never_printed(shell: Shell) -> None:
    shell.write("file", f"{SECRET}\n")

    first, second = shell(*CREATE, "--label", "of the cluster"), shell(*CREATE)

    (made,) = ids(shell)
    assert (first.returncode, first.stdout) == (0, f"{made} is created\n")
    assert (second.returncode, second.stdout) == (0, f"{made} exists\n")
    assert SECRET not in first.stdout + first.stderr + second.stdout + second.stderr


def test_two_that_make_it_at_the_same_moment_are_both_content(shell: Shell) -> None:
    shell.write("file", SECRET)
    shell("db", "migrate")

    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: shell(*CREATE).returncode, range(4)))

    assert codes == [0] * 4
    assert len(ids(shell)) == 1


def test_a_revoked_token_or_one_of_another_role_is_refused(shell: Shell) -> None:
    shell.write("file", SECRET)
    shell(*CREATE)
    (made,) = ids(shell)

    other = shell("token", "create", "--role", "viewer", "--from-file", "file")
    shell("token", "revoke", made)
    revoked = shell(*CREATE)

    assert (other.returncode, revoked.returncode) == (2, 2)
    assert f"already has the role admin ({made}): write another token" in other.stderr
    assert f"is revoked or expired ({made}): write a new one" in revoked.stderr


def test_a_file_that_has_no_strong_token_is_refused_without_its_text(shell: Shell) -> None:
    for text in ("", "short-secret", "two words " * 8, "ö" * 40):
        shell.write("file", text)
        done = shell(*CREATE)
        assert done.returncode == 2, text
        assert "write 32 to 200 random letters" in done.stderr
        assert not text.strip() or text.strip() not in done.stderr
    missing = shell("token", "create", "--role", "admin", "--from-file", "nowhere")

    assert "--from-file: nowhere cannot be read: No such file or directory" in missing.stderr
    assert ids(shell) == []


def test_migrate_waits_for_a_database_that_is_not_there_yet(shell: Shell) -> None:
    closed = {"OPTIO_DATABASE_URL": "postgresql://optio:secret-word@127.0.0.1:1/optio"}

    done = shell("db", "migrate", "--wait", "2s", environ=closed)
    at_once = shell("db", "migrate", environ=closed)
    wrong = shell("db", "migrate", "--wait", "soon", environ=closed)

    assert (done.returncode, at_once.returncode, wrong.returncode) == (2, 2, 2)
    assert len(re.findall(r"^optio: waiting: the database optio on 127.0.0.1:1 ", done.stderr, re.M)) >= 1
    assert "waiting" not in at_once.stderr
    assert "--wait: invalid duration `soon`" in wrong.stderr
    assert "secret-word" not in done.stderr


def test_a_new_token_is_not_printed_without_its_secret(shell: Shell) -> None:
    done = shell("token", "create", "--role", "viewer", "-o", "name")

    assert done.returncode == 2
    assert "invalid choice: 'name'" in done.stderr
    assert ids(shell) == []
