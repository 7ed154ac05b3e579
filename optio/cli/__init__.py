"""The command line: `optio COMMAND`. The module of a command is imported only when you type that command, so each starts
quickly."""

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

# name -> (module, help), in the order of the overview
COMMANDS = {
    "init": ("init", "write a first task into a directory"),
    "dev": ("dev", "serve a task directory on this machine, with hot reload"),
    "doctor": ("doctor", "check this installation and its settings"),
    "completion": ("completion", "complete commands, flags and ids in your shell"),
    "version": ("version", "print the version"),
    "check": ("check", "report every mistake in task files"),
    "test": ("test", "run the tests of task files, offline"),
    "plan": ("plan", "show what a change to task files will do"),
    "render": ("render", "print the prompt of a task with its parameters filled in"),
    "schedule": ("schedule", "print when scheduled tasks fire next"),
    "compile": ("compile", "print the registry that task files compile to"),
    "explain": ("explain", "explain a diagnostic code"),
    "schema": ("schema", "print the JSON Schema of task files"),
    "import": ("import_", "write tasks of files of other systems"),
    "connection": ("connection", "list, test, pin and import connections of tasks"),
    "lsp": ("lsp", "serve an editor: findings, fixes, hover, completion"),
    "run": ("run", "start a run of a task"),
    "rerun": ("rerun", "start a run that has ended again, as a new run"),
    "runs": ("runs", "list, show, follow, cancel and retry runs"),
    "status": ("status", "show processes, queue, and what is wrong with them"),
    "tasks": ("tasks", "list tasks, pause and resume them, remove held ones"),
    "hook": ("hook", "post, list, replay and capture webhook deliveries"),
    "pool": ("pool", "show the pods kept ready for runs; plan how many"),
    "login": ("login", "keep a token for a server"),
    "logout": ("logout", "forget the token of a server"),
    "context": ("context", "list servers by name, choose the default one"),
    "server": ("server", "serve the API"),
    "worker": ("worker", "execute runs"),
    "scheduler": ("scheduler", "fire schedules"),
    "gateway": ("gateway", "lead agents to their models, within their budgets"),
    "token": ("token", "create, list and revoke API tokens"),
    "db": ("db", "migrate, check and back up the database"),
    "prune": ("prune", "delete what is older than its retention setting"),
    "audit": ("audit", "check that no slot, delivery or run was lost or doubled"),
}
# The first command of each group of the overview.
GROUPS = {"init": "Start here", "check": "Write and check", "run": "Run and look", "server": "Serve", "token": "Operate"}

# Errors of writing to standard output: closed pipe, full disk, quota, I/O error.
_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO)

OK, FAILED, USAGE, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 clean, 1 findings or a failed run, 2 wrong usage, 3 a bug."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["check"], ["compile"]):
        _compile_and_exit(arguments)
    sys.exit(invoke(arguments))


def _compile_and_exit(arguments: list[str]) -> None:
    """Run `check` or `compile` without garbage collection and without tearing the interpreter down. Both cost more than the
    check of one file, and the compiler leaves no garbage behind."""
    gc.disable()
    code = invoke(arguments)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def invoke(argv: list[str]) -> int:
    """Run one command line and return its exit code. A closed output (`| head`) is success; a full disk is reported."""
    try:
        code = _command(argv)
        sys.stdout.flush()
    except OSError as err:
        if err.errno not in _UNWRITABLE:
            raise
        # The interpreter must not try to write the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if err.errno == errno.EPIPE:
            return OK  # its reader went away (`| head`): nothing more to say
        print(f"optio: the output cannot be written: {err.strerror}", file=sys.stderr)
        return USAGE
    return code


def _command(argv: list[str]) -> int:
    if len(argv) > 1 and argv[0] == "help":
        argv = [*argv[1:], "--help"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return OK if argv else USAGE
    if argv[0] in ("-V", "--version"):
        from optio.version import __version__

        print(f"optio {__version__}")
        return OK
    if argv[0] == "__complete":
        completed: int = import_module("optio.cli.shared.complete").print_candidates(argv[1:])
        return completed
    name = argv[0]
    if name not in COMMANDS:
        suggestion = import_module("optio.cli.shared.unknown_command").suggest_command(argv)
        print_error(
            f"optio: unknown {'option' if name.startswith('-') else 'command'} `{name}`" + (suggestion and f": {suggestion}")
        )
        print_error("`optio --help` lists the commands")
        return USAGE
    return _run(name, argv[1:])


def _run(name: str, arguments: list[str]) -> int:
    from optio.errors import OptioError, answer_to

    module, summary = COMMANDS[name]
    try:
        command = _import_command(f"optio.cli.{module}")
    except ModuleNotFoundError as err:
        if err.name is not None and err.name.startswith("optio"):
            raise
        from optio.version import how_to_install

        print_error(f"optio {name}: `{err.name}` is not installed: {how_to_install('server')}")
        return USAGE
    from optio.cli.shared.parser import CommandParser

    parser = CommandParser(prog=f"optio {name}", description=command.__doc__ or summary)
    command.add_arguments(parser)
    try:
        args = parser.parse_args(arguments)
        if os.environ.get("OPTIO_PRICES"):
            import_module("optio.cli.shared.price_file").use(os.environ["OPTIO_PRICES"])
        if not getattr(args, "pager", False):
            return int(command.run(args))
        from optio.cli.shared.terminal import run_paged

        return run_paged(command.run, args)
    except OptioError as err:
        print_error(f"optio {name}: {err}")
        return answer_to(err).exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as err:
        if isinstance(err, OSError) and err.errno in _UNWRITABLE:
            raise
        if isinstance(err, OSError) and err.errno == errno.ENAMETOOLONG:  # wherever the command line names a file
            print_error(f"optio {name}: a path is too long: `{str(err.filename)[:60]}...`")
            return USAGE
        if isinstance(err, FileNotFoundError) and err.filename is None:  # of `getcwd`, which has no argument
            print_error(f"optio {name}: the working directory does not exist any more: change to another one")
            return USAGE
        return _report_bug(name, err)


def _import_command(module: str) -> ModuleType:
    """Import without garbage collection, which takes a tenth of the start of a server: what is imported stays."""
    if module in sys.modules or not gc.isenabled():
        return import_module(module)
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def _report_bug(name: str, err: Exception) -> int:
    if os.environ.get("OPTIO_DEBUG"):
        import traceback

        traceback.print_exc()
    print_error(f"optio {name}: a bug in Optio: {type(err).__name__}: {err} (OPTIO_DEBUG=1 shows where)")
    return INTERNAL


def print_error(text: str) -> None:
    """Print to standard error with control characters escaped: text from a file or an argument must not drive the terminal."""
    # Imported here: a clean run has nothing to say.
    from optio.cli.shared.render_run import safe

    print(safe(text), file=sys.stderr)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = ["usage: optio COMMAND [...]", "", "Agent tasks as code."]
    for name, (_, summary) in COMMANDS.items():
        lines += ["", f"{GROUPS[name]}:"] if name in GROUPS else []
        lines.append(f"  {name:<{width}}  {summary}")
    return "\n".join([*lines, "", "`optio COMMAND --help` describes a command, with examples."])
