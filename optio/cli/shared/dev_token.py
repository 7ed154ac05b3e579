"""The token of one start of `optio dev`: a file in the data directory that the command line reads by itself.

Other users of the machine can reach the server's port, and starting runs means running programs as this user. So every request
needs the token, and only this user can read the file. The token names its port: a command never sends it to another port, where
another user may be listening.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from optio import private_files
from optio.errors import SettingsError
from optio.settings import LOOPBACK, Settings

_TOKEN = re.compile(r"optio_dev_(\d{1,5})_[A-Za-z0-9_-]{43}")
_MAX_BYTES = 200


def token_file(settings: Settings) -> Path:
    """Return the path of the token file in the data directory."""
    return settings.data_dir / "dev.token"


@contextmanager
def issue(settings: Settings, port: int) -> Iterator[str]:
    """Create a token for the server on `port`, and keep it in its file until the block ends; raises SettingsError."""
    path = token_file(settings)
    token = f"optio_dev_{port}_{secrets.token_urlsafe(32)}"
    try:
        private_files.write(path, f"{token}\n".encode())
    except OSError as err:
        raise SettingsError(f"the token file {path} cannot be written: {err.strerror}") from err
    try:
        yield token
    finally:
        with suppress(OSError):
            path.unlink()


def find(settings: Settings) -> str | None:
    """Return the token for the server at the configured URL if it is an `optio dev` of this machine and data directory, else
    None.

    Raises SettingsError for a file that another user owns or may write: its token could be anyone's.
    """
    url = urlsplit(settings.server_url)
    if url.hostname not in LOOPBACK:
        return None
    path = token_file(settings)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as err:
        raise SettingsError(f"the token file {path} cannot be read: {err.strerror}: set OPTIO_TOKEN") from err
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise SettingsError(f"the token file {path} is not yours: start `optio dev` as this user, or set OPTIO_TOKEN")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SettingsError(f"other users may write the token file {path}: delete it and start `optio dev` again")
        text = file.read(_MAX_BYTES).decode("ascii", "replace").strip()
    match = _TOKEN.fullmatch(text)
    return text if match is not None and int(match[1]) == (url.port or 80) else None
