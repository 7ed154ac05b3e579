"""What the start of a command leaves out."""

import subprocess
import sys


def printed(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_command_is_imported_without_garbage_collection_which_works_afterwards() -> None:
    collections = "sum(each['collections'] for each in gc.get_stats())"
    begin = f"import gc; from optio.cli import _import_command; before = {collections}; _import_command('optio.cli.server')"

    found = printed(f"{begin}; print({collections} - before, gc.isenabled(), gc.get_freeze_count() > 10_000)")

    assert found == ["0 True True"]


def test_a_server_loads_no_library_of_models_that_happens_to_be_installed() -> None:
    import pydantic  # noqa: F401 - it is installed, so that it could be loaded

    found = printed("import sys; from optio.server.app import rest; rest(); print('pydantic' in sys.modules)")

    assert found == ["False"]
