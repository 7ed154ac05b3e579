"""Checks of arguments and environment that the kernel would refuse, so that the error names the cause. Used by every executor
before a launch."""

from collections.abc import Mapping, Sequence

from optio.errors import LaunchFailed

# The kernel's limit for one argument or one `NAME=value`, with its final NUL (MAX_ARG_STRLEN).
_MAX_STRING_BYTES = 131_072


def check_launch(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise LaunchFailed with the name of what is wrong. Values may be secrets, so messages hold only names and lengths."""
    for name, value in environment.items():
        entry = f"{name}={value}"
        if "\0" in entry:
            raise LaunchFailed("environment", f"the environment variable {name!r} holds a NUL character")
        if _size(entry) >= _MAX_STRING_BYTES:
            raise LaunchFailed(
                "environment",
                f"`{name}` in the environment is longer than {_MAX_STRING_BYTES - 1:,} bytes: large values go into parameters",
            )
    for place, argument in enumerate(argv):
        if "\0" in argument or _size(argument) >= _MAX_STRING_BYTES:
            raise LaunchFailed("config", f"argument {place} of the command holds NUL or {_MAX_STRING_BYTES:,} bytes or more")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
