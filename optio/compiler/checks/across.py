"""Check what only several files together can get wrong: duplicate ids and webhook paths, file names that collide on some disks,
patterns of the policy that match no task, and the budget of the whole tree. It sees the facts of each file
(`optio.compiler.facts`) and never the files."""

import posixpath
from collections.abc import Iterator, Sequence

from optio.compiler.diagnostics import Diagnostic, Related, diagnostic
from optio.compiler.facts import NO_SPEND_CAPS, TaskFacts, ValuePlace, WebhookPath
from optio.compiler.source import START
from optio.compiler.source_tree import SUFFIXES


def check_across(claims: Sequence[TaskFacts], *, executor: str | None = None, is_whole: bool = True) -> Iterator[Diagnostic]:
    """Yield the findings about all files together. Of two tasks with the same id or webhook path, the first file in path order
    keeps it and the later one has the error. `executor` adds keys that this executor does not apply; without `whole` (some
    files of a tree) nothing is reported as unused."""
    yield from _duplicate_ids(claims)
    yield from _duplicate_paths(claims)
    yield from _files([claim.path for claim in claims])
    if executor is not None and any(claim.asks for claim in claims):
        # Imported here: most tasks leave their environment alone.
        from optio.compiler.checks import isolation

        yield from isolation.check(claims, executor)
    if is_whole and any(claim.namespaces for claim in claims):
        # Imported here: few trees have teams.
        from optio.compiler.checks import namespaces

        yield from namespaces.check(claims)
    if is_whole and any(claim.connection is not None for claim in claims):
        yield from _unused_connections(claims)
    if any(claim.caps != NO_SPEND_CAPS for claim in claims):
        # Imported here: few trees limit all tasks together.
        from optio.compiler.checks import tree_budget

        yield from tree_budget.check(claims)


def _unused_connections(claims: Sequence[TaskFacts]) -> Iterator[Diagnostic]:
    used = {name for claim in claims for name in claim.connections}
    for claim in claims:
        name = posixpath.splitext(posixpath.basename(claim.path))[0]
        if claim.connection is not None and name not in used:
            hint = f"write `connections: [{name}]` into the task that needs it, or delete the file"
            message, (route, span) = f"no task names the connection `{name}`", claim.connection
            yield diagnostic("OPT547", message, path=claim.path, span=span, route=route, hint=hint)


def _files(paths: Sequence[str]) -> Iterator[Diagnostic]:
    """Report paths that differ only by case, and files with a suffix that the server does not read."""
    if len({path.casefold() for path in paths}) < len(paths):
        yield from _twins(paths)
    for path in paths:
        if not path.endswith(SUFFIXES):
            message = "the server does not read this file: it reads only .yaml and .yml"
            yield diagnostic("OPT702", message, path=path, hint=f"name it `{posixpath.splitext(path)[0]}.yaml`")


def _twins(paths: Sequence[str]) -> Iterator[Diagnostic]:
    first: dict[str, str] = {}
    for path in paths:
        first_path = first.setdefault(path.casefold(), path)
        if first_path != path:
            message, hint = (
                f"the path differs from {first_path} only by case",
                "rename one of them: some disks cannot hold both",
            )
            yield diagnostic("OPT705", message, path=path, hint=hint, related=(Related("also here", first_path, START),))


def _duplicate_ids(claims: Sequence[TaskFacts]) -> Iterator[Diagnostic]:
    if len({claim.id for claim in claims}) == len(claims):
        return
    first: dict[str, tuple[TaskFacts, ValuePlace]] = {}
    for claim in claims:
        if claim.named is None:
            continue
        owner, owner_place = first.setdefault(claim.id, (claim, claim.named))
        if owner is not claim:
            message, hint = (
                f"the id `{claim.id}` is taken by {owner.path}",
                f"give one of them another name, or add `id: {claim.id}-2`",
            )
            yield _taken("OPT701", message, hint, claim, claim.named, owner, owner_place)


def _duplicate_paths(claims: Sequence[TaskFacts]) -> Iterator[Diagnostic]:
    paths = [hook.path.strip("/").lower() for claim in claims for hook in claim.hooks]
    if len(set(paths)) == len(paths):
        return
    first: dict[str, tuple[TaskFacts, WebhookPath]] = {}
    normal_paths = iter(paths)
    for claim in claims:
        for hook in claim.hooks:
            owner, owner_hook = first.setdefault(next(normal_paths), (claim, hook))
            if owner is not claim:
                message = f"the webhook path `{hook.path}` is taken by {owner.path}"
                suggestion = claim.id if claim.id not in paths else f"{hook.path.strip('/').lower()}-{len(first) + 1}"
                hint = f"write another path, such as `{suggestion}`"
                yield _taken("OPT402", message, hint, claim, hook.place, owner, owner_hook.place)


def _taken(
    code: str, message: str, hint: str, claim: TaskFacts, place: ValuePlace, owner: TaskFacts, owner_place: ValuePlace
) -> Diagnostic:
    related = (Related("also here", owner.path, owner_place.span),)
    return diagnostic(code, message, path=claim.path, span=place.span, route=place.route, hint=hint, related=related)
