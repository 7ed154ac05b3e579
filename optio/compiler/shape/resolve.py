"""Resolve a decoded task: compute its id, read its prompt file, and read the sample payloads that its tests name."""

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
    spec, gaps = shape.spec, set(shape.gaps)
    findings: list[Diagnostic] = []

    def at(code: str, message: str, route: Route, hint: str | None, *, key: bool = False) -> None:
        span = document.key_span(route) if key else document.span(route)
        findings.append(diagnostic(code, message, path=document.path_at(route), span=span, route=route, hint=hint))
        gaps.add(route)

    task_id = spec.id or slug(spec.name)
    if ("name",) not in gaps and not spec.name.isprintable():
        at("OPT107", "`name` holds a line break or a control character", ("name",), "write the name on one line")
    elif (not task_id or len(task_id) > MAX_ID_LENGTH) and not gaps & {("name",), ("id",)}:
        reason = "gives no id" if not task_id else f"gives an id of {len(task_id)} characters"
        at("OPT107", f"the name {reason}", ("name",), "add `id:` with a-z, 0-9 and dashes")
    prompt, prompt_path = spec.prompt_template or "", None
    if spec.prompt_template is not None and spec.prompt_file is not None:
        at(
            "OPT108",
            "both `promptTemplate` and `promptFile`",
            ("promptFile",),
            "keep one: delete `promptFile`, or `promptTemplate`",
            key=True,
        )
    elif spec.prompt_file is not None:
        try:
            prompt_path = resolve_path(document.path_at(("promptFile",)), spec.prompt_file)
            prompt = _prompt_text(tree.read(prompt_path))
        except Unreadable as err:
            hint = missing_hint(tree, document.path_at(("promptFile",)), spec.prompt_file, err)
            at(err.code, f"`{spec.prompt_file}` {err.message}", ("promptFile",), hint)
        except UnicodeDecodeError:
            at("OPT115", f"`{spec.prompt_file}` is not UTF-8", ("promptFile",), "save it as UTF-8")
    elif (
        spec.prompt_template is None
        and spec.agent_runtime != "command"
        and not _any_gap(gaps, "promptTemplate", "promptFile", "command")
        and not (_any_gap(gaps, "name") and "templates" in document.path.split("/")[:-1])
        and not (spec.command is not None and _any_gap(gaps, "agentRuntime"))
    ):
        hint = "add `promptTemplate: |` and the prompt below it, or `promptFile:`"
        at("OPT102", "`promptTemplate` is missing", ("promptTemplate",), hint, key=True)
    samples: list[Sample] = []
    payloads: dict[str, Any] = {}
    for index, example in enumerate(spec.tests):
        if example.expect.prompt is not None and example.expect.word == "accepted":
            findings += _snapshot(document, ("tests", index, "expect", "prompt"), example.expect.prompt, tree)
        if example.webhook is None:
            continue
        route: Route = ("tests", index, "webhook")
        loaded = _sample(document, route, example, example.webhook, tree, payloads)
        if isinstance(loaded, Sample):
            samples.append(loaded)
        elif loaded is not None:
            findings.append(loaded)
    task = ResolvedTask(task_id, spec, prompt, document, prompt_path, frozenset(gaps), tuple(samples))
    return task, findings


def _any_gap(gaps: set[Route], *keys: str) -> bool:
    return any((key,) in gaps for key in keys)


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
