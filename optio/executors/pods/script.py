"""The supervisor's script in its two parts: a pod's specification has the first, which waits for a launch; the second travels
with the launch, as a function of its plan.

The cluster keeps a pod's specification, and sends it with each change to everybody who watches the pod: a byte there is sent
about seven times a run. A byte of the launch is sent once. So nothing else has to be made, mounted or mended for the script.
"""

import re
from functools import cache
from importlib import resources

_CUT = "#: the launch brings what follows\n"
# A comment or an indentation; no line of the script begins within quotes.
_IDLE = re.compile(r"^(?:[ \t]*#[^\n]*\n|[ \t]+|\n)", re.MULTILINE)


def waiting() -> str:
    """Return the script of the pod's first process: it waits for a launch and then calls `supervise`."""
    return _parts()[0]


def supervising() -> str:
    """Return the definition of `supervise`, which starts the agent of the launch and lives until its end."""
    return f"supervise() {{\n{_parts()[1]}}}\n"


@cache
def _parts() -> tuple[str, str]:
    text = resources.files(__package__).joinpath("supervisor.sh").read_text()
    first, second = text.split(_CUT)
    return _IDLE.sub("", first), _IDLE.sub("", second)
