"""The files that an example of the catalogue of rules stands for."""

import re

_REST = {"name": "name: Example", "agentRuntime": "agentRuntime: claude-code", "promptTemplate": "promptTemplate: Say hello"}
_FILE = re.compile(r"^# file: (\S+)\n", re.MULTILINE)


def example_files(example: str) -> dict[str, bytes]:
    """Return the files that an example stands for. `# file: PATH` begins a file and `---` a complete one; other tasks get the
    required keys that they lack.

    Bytes that are not UTF-8 are lone surrogates in the catalogue.
    """
    parts = _FILE.split(example)
    named = dict(zip(parts[1::2], parts[2::2], strict=True)) if len(parts) > 1 else {"task.yaml": example}
    return {path: _whole(path, text).encode("utf-8", "surrogateescape") for path, text in named.items()}


def _whole(path: str, text: str) -> str:
    if not path.endswith((".yaml", ".yml")) or text.startswith("---"):
        return text
    absent = [line for key, line in _REST.items() if not re.search(rf"^{key}:", text, re.MULTILINE)]
    if "promptFile:" in text and _REST["promptTemplate"] in absent:
        absent.remove(_REST["promptTemplate"])
    mark = text[:1] if text.startswith("\ufeff") else ""
    return mark + "".join(f"{line}\n" for line in absent) + text.removeprefix(mark)
