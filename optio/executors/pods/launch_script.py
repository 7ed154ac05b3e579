"""A launch in the form that a pod takes: a script that writes the supervisor's input, sent to a shell in the pod on its
standard input.

Nothing of it appears in the pod's specification, in an argument, or in the environment of a process that others can see.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType

from optio.executors.base import Launch
from optio.executors.pods import script

CONTROL = "/optio"
HOME = f"{CONTROL}/home"
# In memory, and never on the node's disk.
PRIVATE = f"{CONTROL}/private"
# An orphan is dead a good while before others repeat its run. It is looked for in ticks: the second in a row without a sign of
# life is the end, so two ticks and the grace must fit into the time.
_ORPHAN_TICK = 0.4
_ORPHAN_GRACE_SHARE = 0.1
# What the cluster and the shell put into every environment.
_FOREIGN = (
    "KUBERNETES_PORT KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_ADDR KUBERNETES_PORT_443_TCP_PORT "
    "KUBERNETES_PORT_443_TCP_PROTO KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS HOSTNAME "
    "OLDPWD PWD SHLVL"
)
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
_FIXED = {
    "HOME": HOME,
    "TMPDIR": "/tmp",  # noqa: S108 - a volume of the pod's own
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "IS_SANDBOX": "1",  # without it Claude Code does not run unattended as root
}
# Exit codes of the `COMMAND`: no launch was sent after all, and another launch for the same attempt came first.
NOTHING, TAKEN = 8, 9
# Exit codes of `LOOK`. A launch that comes after the answer NEVER ends with NEVER, too.
LAUNCHED, NEVER = 3, 4


def _first(name: str) -> str:
    """Return shell code that creates a file which must not exist yet, so that one of several contenders succeeds. It needs no
    program."""
    return f"{{ set -C; true >{name}; }} 2>/dev/null"


# Whether a pod has a launch is decided once, by the first to create the name `go`: a launch creates a file, and a worker that
# finds no launch creates a directory. Every later reader sees the same decision, and so does a launch that comes later, or that
# broke off before and continues. The pod's own idle timer decides in the same way (see `supervisor.sh`).
LOOK = (
    f"cd {CONTROL} || exit 1; umask 077; [ -f stdout ] && exit {LAUNCHED}; "
    f"mkdir go 2>/dev/null; [ -d go ] && exit {NEVER}; [ -f go ] && exit {LAUNCHED}; exit 1"
)
# A program that cannot be started is distinguished from one that ends with the same code.
_AGENT = """\
unstarted() {{
    echo "$1" >{control}/unstarted
    trap - EXIT
    exit "$2"
}}
agent() {{
    enter
    path=$(command -v {program}) || unstarted ENOENT 127
    [ -x "$path" ] || unstarted EACCES 126
    trap 'unstarted E2BIG 126' EXIT
    if command -v setsid >/dev/null; then exec setsid {argv}; fi
    exec {argv}
}}
"""


# The command that takes a `parcel`. It prints a line when it runs, and changes nothing until the parcel comes, because another
# worker may get the pod. When the launch is under way it prints `GONE_ON`, and from then on the agent's output, while somebody
# reads it. It is shell alone but for `cat`: each further process costs an agent a few milliseconds. The supervisor opens
# `launch` when it is ready, and reads once: if this command is killed between `go` and the word, the supervisor ends.
GONE_ON = b"launched\n"
COMMAND = (
    "/bin/sh",
    "-c",
    f'echo; LC_ALL=C; cd {CONTROL} && umask 077 && parcel=$(cat) && [ -n "$parcel" ] || exit {NOTHING}; '
    f"[ -d go ] && exit {NEVER}; {_first('taken')} || exit {TAKEN}; set +C; "
    'whole=; eval "$parcel"; [ "$whole" = yes ] || exit 1; '
    "until [ -p launch ]; do sleep 0.02 2>/dev/null || sleep 1; done; "
    f"{{ {_first('go')} && echo go || exit {NEVER}; }} >launch; set +C; "
    ": >>stdout; echo launched; exec tail -c +1 -f stdout",
)


def parcel(launch: Launch, *, orphan_s: float, way_out: Mapping[str, str] = NO_VARIABLES) -> bytes:
    """Return a launch for the `COMMAND`. `orphan_s` is the rest of the time without a renewal, in seconds; `way_out` are
    variables of the place."""
    files = {f"home/{name}": content for name, content in launch.files.items()}
    folders = dict.fromkeys(str(PurePosixPath(path).parent) for path in files)
    making = [f"mkdir -p {shlex.join(folders)}\n".encode()] if folders else []
    files |= {f"{PRIVATE}/plan": _script(launch, orphan_s, way_out).encode(), f"{PRIVATE}/stdin": launch.stdin}
    # A part of the last line is another word.
    return b"".join([*making, *(_writing(path, content) for path, content in files.items()), b"whole=yes\n"])


def _writing(path: str, content: bytes) -> bytes:
    """Return a shell line that writes these bytes to a file; the shell can express every byte but zero directly."""
    parts = [b"'" + part.replace(b"'", b"'\\''") + b"'" for part in content.split(b"\0")]
    form = b"\\000".join([b"%s"] * len(parts))
    return b"printf '%b' %b >%b\n" % (form, b" ".join(parts), shlex.quote(path).encode())


def environment(launch: Launch, way_out: Mapping[str, str] = NO_VARIABLES) -> dict[str, str]:
    """Return all variables of the agent except those of its image, such as PATH."""
    return {
        **_FIXED,
        **way_out,
        **launch.env,
        **{name: f"{HOME}/{path}" for name, path in launch.file_env.items()},
        "OPTIO_RESULT_FILE": f"{CONTROL}/result/result.jsonl",
    }


def preparation(commands: Sequence[str], variables: Mapping[str, str]) -> str:
    """Return a script that defines `setup`: it runs the commands in order, up to the first that fails, with these variables."""
    lines = "".join(
        f"    (prepare && exec /bin/sh -c {shlex.quote(command)}) </dev/null >>stderr 2>&1 || return\n" for command in commands
    )
    return f"{_entering('prepare', variables)}setup() {{\n{lines}    return 0\n}}\n"


def ahead(commands: Sequence[str], variables: Mapping[str, str]) -> str:
    """Return the script `preparation` for a pod that has no launch yet."""
    return preparation(commands, {**_FIXED, **variables})


def kept_s(launch: Launch) -> int:
    """Return how many seconds the pod lives after its agent has ended, should its run fail."""
    span = None if launch.environment is None else launch.environment.keep_failed_span
    return 0 if span is None else math.ceil(span.total_seconds())


def _entering(name: str, variables: Mapping[str, str]) -> str:
    """Return a shell function that enters the work directory and sets these variables and no others."""
    exports = "".join(f"    export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    return f"{name}() {{\n    cd {CONTROL}/work\n    unset {_FOREIGN}\n{exports}}}\n"


def _below_home(path: str | None) -> str:
    return shlex.quote("" if path is None else f"home/{path}")


def _script(launch: Launch, orphan_s: float, way_out: Mapping[str, str]) -> str:
    variables = environment(launch, way_out)
    argv = " ".join(map(shlex.quote, launch.arguments(HOME)))
    return (
        f"TIMEOUT={launch.timeout_s:.3f} GRACE={launch.grace_s:.3f}\n"
        f"ORPHAN_TICK={orphan_s * _ORPHAN_TICK:.3f} ORPHAN_GRACE={min(launch.grace_s, orphan_s * _ORPHAN_GRACE_SHARE):.3f}\n"
        f"KEEP={kept_s(launch)} SIDE={_below_home(launch.side)} TELEMETRY={_below_home(launch.telemetry)}\n"
        + (
            preparation(launch.setup, variables)
            if launch.setup_env is None
            else ahead(launch.setup, {**way_out, **launch.setup_env})
        )
        + _entering("enter", variables)
        + _AGENT.format(control=CONTROL, program=shlex.quote(launch.argv[0]), argv=argv)
        + script.supervising()
    )
