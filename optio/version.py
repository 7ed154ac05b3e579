"""The version and the name of the distribution, in a module of its own so that reading them costs no metadata scan."""

__version__ = "0.1.0"
# `optio` is the name of another project on PyPI. No message tells you to install from there: this one is not published yet.
DISTRIBUTION = "optio-taskrunner"


def how_to_install(extra: str) -> str:
    """Return what to do where the libraries of an optional part are missing."""
    return f"install {DISTRIBUTION} with its `{extra}` extra, in a clone of it by `{install_command(extra)}`"


def install_command(extra: str) -> str:
    """Return the command that installs an optional part, in a clone."""
    return f"pip install '.[{extra}]'"
