"""Import Kubernetes CronJobs: every document of that kind becomes a task that runs the command of its container."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.yaml.document import Document
from optio.importing.converters import CONVERTERS, as_text, complete_draft, put_command, put_secret, put_variable
from optio.importing.draft import TaskDraft
from optio.importing.source import Section
from optio.model.route import Route

# Kubernetes sets it where a file does not.
_BACKOFF_LIMIT = 6
# Kubernetes fills these in; `$$(NAME)` is the text itself.
_EXPANSION = re.compile(r"(?<!\$)\$\([A-Za-z_][A-Za-z0-9_.-]*\)")


def is_cronjob(value: Any) -> bool:
    """Return whether a document is a CronJob, or a list that has some."""
    if not isinstance(value, dict):
        return False
    items = value.get("items") if value.get("kind") == "List" else None
    return value.get("kind") == "CronJob" or (isinstance(items, list) and any(map(is_cronjob, items)))


def read_cronjobs(_path: str, documents: list[Document]) -> Iterator[TaskDraft]:
    """Yield a draft for each object. One of another kind says so, and cannot be written."""
    for document in documents:
        routes: list[Route] = [()]
        if isinstance(document.value, dict) and document.value.get("kind") == "List" and is_cronjob(document.value):
            routes = [("items", index) for index in range(len(document.value["items"]))]
        for route in routes:
            draft = TaskDraft("cronjob")
            job = Section(document, route, draft, "cronjob")
            if is_cronjob(job.value):
                _read_one(job, draft)
            else:
                draft.name = job.text("kind") or "document"
                draft.refuse(job.origin("kind"), "only CronJobs are imported; this object has no counterpart")
            yield draft


def _read_one(job: Section, draft: TaskDraft) -> None:
    metadata, spec = job.section("metadata"), job.section("spec")
    metadata.name_draft("name")
    job_spec = spec.section("jobTemplate").section("spec")
    pod = job_spec.section("template").section("spec")
    if not pod.is_mapping:
        draft.refuse(job.origin("spec"), "the CronJob has no `spec.jobTemplate.spec.template.spec`: complete it")
        return
    _put_policies(spec, job_spec, draft)
    _put_container(pod, draft)
    job.finish()
    if "cronExpression" in draft.schedule and "timezone" not in draft.schedule:
        question = "without `timeZone` the times are those of the cluster's controller, here of UTC: write `timezone`"
        draft.decide(spec.origin("schedule"), question)
    complete_draft(draft, pod.origin("containers"))


def _put_policies(spec: Section, job_spec: Section, draft: TaskDraft) -> None:
    origin = spec.origin("concurrencyPolicy")
    policy = spec.text("concurrencyPolicy") or "Allow"
    draft.schedule |= {"misfire": "last", "overlap": "skip" if policy == "Forbid" else "queue"}
    if policy == "Allow":
        draft.decide(origin, "Kubernetes lets any number of runs overlap, Optio 2: write `maxConcurrent` for more")
    else:
        draft.carry(origin, "maxConcurrent", 1, "and `overlap: skip`" if policy == "Forbid" else "")
    if policy == "Replace":
        draft.block(origin, "no run is ended for the next one: with `maxConcurrent: 1` the next one waits")
    for name in ("parallelism", "completions"):
        if job_spec.peek(name) == 1:
            job_spec.take(name)
    origin, limit = job_spec.origin("backoffLimit"), job_spec.take("backoffLimit")
    if limit is None:
        draft.carry(origin, "maxRetries", _BACKOFF_LIMIT, "the default of Kubernetes")
    elif not CONVERTERS["number"](draft, origin, "maxRetries", limit):
        draft.decide(origin, "write `maxRetries`")


def _put_container(pod: Section, draft: TaskDraft) -> None:
    containers = pod.sections("containers", "cronjob.container")
    if len(containers) != 1:
        draft.refuse(
            pod.origin("containers"), f"a run has one container, this pod has {len(containers)}: write a task for each"
        )
        return
    (container,) = containers
    origin, command, arguments = container.origin("command"), container.take("command"), container.take("args")
    if not isinstance(command, list):
        question = "the program is the entry point of the image, which the file does not tell: add `command`, and import again"
        draft.refuse(origin, question)
        return
    words = [as_text(word) for word in (*command, *(arguments if isinstance(arguments, list) else ()))]
    if any(map(_EXPANSION.search, words)):
        draft.block(origin, "Optio fills in no `$(NAME)`: let the program read the variable, or write the value")
    put_command(draft, origin, [word.replace("$$(", "$(") for word in words])
    if arguments is not None:
        draft.carried(container.origin("args"), "command" if "command" in draft.values else "promptTemplate")
    for variable in container.sections("env", "cronjob.variable"):
        name, source = variable.text("name") or "", variable.take("valueFrom")
        origin = variable.origin()._replace(key=f"env {name}")
        reference = source.get("secretKeyRef") if isinstance(source, dict) else None
        if isinstance(reference, dict):
            put_secret(draft, origin, name, f"the key `{reference.get('key')}` of `{reference.get('name')}`")
        elif source is not None:
            draft.block(origin, f"`{name}` comes from the cluster: write its value under `environment.env`")
        else:
            put_variable(draft, origin, name, variable.text("value") or "", _EXPANSION.pattern)
            variable.drop()
