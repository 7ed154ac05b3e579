"""Resolve a decoded task: compute its id, read its prompt file, and read the sample payloads that its tests name."""

from collections.abc import Iterator
from typing import Any

from optio.compiler.diagnostics import Diagnostic, diagnostic
from optio.compiler.layers import MergedDocument, missing_hint, resolve_path
from optio.compiler.resolved_task import ResolvedTask, Sample
from optio.compiler.shape.decode import DecodedTask
from optio.compiler.source_tree import MissingFile, SourceTree, Unreadable
from optio.compiler.suggest_path import suggest_file
from optio.compiler.yaml.document import Document
from optio.compiler.yaml.emit import flow
from optio.errors import Malformed
from optio.model.example import Example
from optio.model.json_body import decode
from optio.model.route import Route
from optio.model.text import slug

MAX_ID_LENGTH = 80
# Verdicts of deliveries whose body is not read.
_UNREAD = ("unsupported", "unsigned", "stale", "unreadable")


def resolve(document: Document | MergedDocument, shape: DecodedTask, tree: SourceTree) -> tuple[ResolvedTask, list[Diagnostic]]:
    """Return the resolved task and findings about files that cannot be read. The task comes in any case, with gaps."""
    return _TaskResolver(document, shape, tree).resolve()


class _TaskResolver:
    def __init__(self, document: Document | MergedDocument, shape: DecodedTask, tree: SourceTree) -> None:
        self.document, self.spec, self.tree = document, shape.spec, tree
        self.gaps = set(shape.gaps)
        self.findings: list[Diagnostic] = []

    def resolve(self) -> tuple[ResolvedTask, list[Diagnostic]]:
        task_id = self._id()
        prompt, prompt_path = self._prompt()
        samples = tuple(self._samples())
        task = ResolvedTask(task_id, self.spec, prompt, self.document, prompt_path, frozenset(self.gaps), samples)
        return task, self.findings

    def _report(self, code: str, message: str, key: str, hint: str | None, *, at_key: bool = False) -> None:
        route = (key,)
        span = self.document.key_span(route) if at_key else self.document.span(route)
        path = self.document.path_at(route)
        self.findings.append(diagnostic(code, message, path=path, span=span, route=route, hint=hint))
        self.gaps.add(route)

    def _has_gap(self, *keys: str) -> bool:
        return any((key,) in self.gaps for key in keys)

    def _id(self) -> str:
        task_id = self.spec.id or slug(self.spec.name)
        if not self._has_gap("name") and not self.spec.name.isprintable():
            message = "`name` holds a line break or a control character"
            self._report("OPT107", message, "name", "write the name on one line")
        elif (not task_id or len(task_id) > MAX_ID_LENGTH) and not self._has_gap("name", "id"):
            reason = "gives no id" if not task_id else f"gives an id of {len(task_id)} characters"
            self._report("OPT107", f"the name {reason}", "name", "add `id:` with a-z, 0-9 and dashes")
        return task_id

    def _prompt(self) -> tuple[str, str | None]:
        """Return the prompt, and the path of its own file if it has one."""
        spec = self.spec
        if spec.prompt_file is None:
            if spec.prompt_template is None and self._needs_prompt():
                hint = "add `promptTemplate: |` and the prompt below it, or `promptFile:`"
                self._report("OPT102", "`promptTemplate` is missing", "promptTemplate", hint, at_key=True)
            return spec.prompt_template or "", None
        if spec.prompt_template is not None:
            hint = "keep one: delete `promptFile`, or `promptTemplate`"
            self._report("OPT108", "both `promptTemplate` and `promptFile`", "promptFile", hint, at_key=True)
            return spec.prompt_template, None
        own_path = self.document.path_at(("promptFile",))
        path: str | None = None
        try:
            path = resolve_path(own_path, spec.prompt_file)
            return _prompt_text(self.tree.read(path)), path
        except Unreadable as err:
            cure = missing_hint(self.tree, own_path, spec.prompt_file, err)
            self._report(err.code, f"`{spec.prompt_file}` {err.message}", "promptFile", cure)
        except UnicodeDecodeError:
            self._report("OPT115", f"`{spec.prompt_file}` is not UTF-8", "promptFile", "save it as UTF-8")
        return "", path

    def _needs_prompt(self) -> bool:
        """Return True if the task surely has an agent, and nothing that was wrong may have been the prompt or a template."""
        if self.spec.agent_runtime == "command" or self._has_gap("promptTemplate", "promptFile", "command"):
            return False
        is_template = self._has_gap("name") and "templates" in self.document.path.split("/")[:-1]
        return not is_template and not (self.spec.command is not None and self._has_gap("agentRuntime"))

    def _samples(self) -> Iterator[Sample]:
        payloads: dict[str, Any] = {}
        for index, example in enumerate(self.spec.tests):
            if example.expect.prompt is not None and example.expect.word == "accepted":
                route: Route = ("tests", index, "expect", "prompt")
                self.findings += _snapshot(self.document, route, example.expect.prompt, self.tree)
            if example.webhook is None:
                continue
            route = ("tests", index, "webhook")
            loaded = _sample(self.document, route, example, example.webhook, self.tree, payloads)
            if isinstance(loaded, Sample):
                yield loaded
            elif loaded is not None:
                self.findings.append(loaded)


def _prompt_text(data: bytes) -> str:
    return data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _snapshot(document: Document | MergedDocument, route: Route, name: str, tree: SourceTree) -> list[Diagnostic]:
    """Report a prompt of a test that names no file: `optio test --update` writes one, unless the text is the prompt itself."""
    try:
        tree.read(resolve_path(document.path, name))
        return []
    except Unreadable as err:
        is_text = len(name.split()) > 1 or "\n" in name
        message = f"`{name}` is a text, and `prompt` names a file" if is_text else f"`{name}` {err.message}"
        if is_text:
            hint = f"write `promptContains: {flow(name)}`"
        elif isinstance(err, MissingFile):
            near = suggest_file(tree, document.path, name)
            hint = f"did you mean `{near}`?" if near else "run `optio test --update`, which writes it"
        else:
            hint = err.hint or "name a file beside this one"
        return [diagnostic("OPT430", message, path=document.path, span=document.span(route), route=route, hint=hint)]


def _sample(
    document: Document | MergedDocument, route: Route, example: Example, name: str, tree: SourceTree, payloads: dict[str, Any]
) -> Sample | Diagnostic | None:
    """Read a payload as the server would, once for all tests that name it. Returns None for a payload that a test expects to be
    unreadable."""

    def at(code: str, message: str, hint: str | None) -> Diagnostic:
        return diagnostic(code, message, path=document.path, span=document.span(route), route=route, hint=hint)

    try:
        path = resolve_path(document.path, name)
        if path not in payloads:
            payloads[path] = decode(tree.read(path), f"`{name}`")
        return Sample(route, path, payloads[path], example.expect.word)
    except Unreadable as err:
        hint = (
            "give a smaller one: the server refuses such a body (413)"
            if err.code == "OPT014"
            else missing_hint(tree, document.path, name, err)
        )
        return at(err.code, f"`{name}` {err.message}", hint)
    except Malformed as err:
        if example.expect.word in _UNREAD:
            return None
        return at("OPT424", str(err), "give the payload as it was received, or expect `verdict: unreadable`")
