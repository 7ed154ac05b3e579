"""Write a first task into a directory. Existing files are never changed."""

import argparse
import os
from pathlib import Path

from optio.cli import OK
from optio.cli.shared import flags
from optio.cli.shared.render_run import safe
from optio.compiler.json_schema import SCHEMAS
from optio.errors import SettingsError

_HELLO = """\
type: standalone
name: Hello
description: A first task; it runs a program and needs no agent
agentRuntime: command
command: ["/bin/cat"]              # the prompt comes on standard input, what it prints is the output
promptTemplate: "Hello, {{WHO}}!"
paramsSchema:
  type: object
  properties:
    WHO: {type: string, default: world, maxLength: 200}
  additionalProperties: false
triggers:
  - type: manual
"""

_README = """\
# Tasks

Each YAML file here is one task. While `optio dev` runs, a saved file is served at once.

    optio check                          what is wrong, where, and how to fix it 
    optio render hello -p WHO=you        the prompt that a run would get
    optio dev                            serve these tasks on this machine
    optio run hello -p WHO=you --wait    start a run and see its log
    optio schema --write schemas         update the JSON Schemas that editors complete keys from

Secrets are names here; their values stay outside: a file `<NAME>` in `.optio/secrets/`, or the variable `OPTIO_SECRET_<NAME>`.
The key of an agent's model, such as `ANTHROPIC_API_KEY`, is one of them. `optio dev` adds it to the agent's calls of its model:
the agent itself gets a key of its attempt.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", nargs="?", default=".", metavar="DIR", help="the project's directory (default: this one)")
    flags.add_setting_flags(parser, "tasks")


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0, also if every file existed; raises SettingsError if the directory cannot be written."""
    root = Path(args.directory)
    tasks = root / flags.read_settings(args).tasks
    schemas = root / "schemas"
    place = Path(os.path.relpath(schemas / "task.schema.json", tasks)).as_posix()
    files = {tasks / "hello.yaml": f"# yaml-language-server: $schema={place}\n{_HELLO}", tasks / "README.md": _README}
    files |= {schemas / f"{kind}.schema.json": schema() for kind, schema in SCHEMAS.items()}
    if tasks.is_dir() and any(path.suffix in (".yaml", ".yml") for path in tasks.rglob("*")):
        # A tree with tasks needs no example.
        del files[tasks / "hello.yaml"]
        print(safe(f"{tasks}/ has tasks already"))
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            print(safe(f"wrote {path}"))
        except FileExistsError:
            print(safe(f"kept  {path}"))
        except OSError as err:
            raise SettingsError(f"{path} cannot be written: {err.strerror}") from err
    go = "" if root.resolve() == Path.cwd() else f"cd {root} && "
    print(safe(f"\nnext:  {go}optio dev\nthen:  optio run hello -p WHO=you --wait"))
    return OK
