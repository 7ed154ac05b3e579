"""Recognise the format of a file by its content, and hand it to the module that reads it."""

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from optio.importing.cronjob import is_cronjob, read_cronjobs
from optio.importing.crontab import is_crontab, read_crontab
from optio.importing.dagu import is_dagu, read_dagu
from optio.importing.draft import TaskDraft
from optio.importing.gh_aw import is_agentic_workflow, read_agentic_workflow
from optio.importing.github_workflow import is_workflow, read_workflow
from optio.importing.kestra import is_kestra, read_kestra
from optio.importing.optio_api import has_requests, is_optio_task, read_requests, read_tasks
from optio.importing.source import SourceError, read_documents


class Format(StrEnum):
    """A kind of file that can be imported, as `--from` names it."""

    GITHUB_WORKFLOW = "github-workflow"
    GH_AW = "gh-aw"
    CRONJOB = "cronjob"
    CRONTAB = "crontab"
    DAGU = "dagu"
    KESTRA = "kestra"
    OPTIO_API = "optio-api"


class _Reader(NamedTuple):
    """How a text, or for YAML one of its documents, is recognised, and how that or all documents are read with their path."""

    fits: Callable[[Any], bool]
    read: Callable[[str, Any], Iterator[TaskDraft]]


_OF_TEXT = {
    Format.CRONTAB: _Reader(is_crontab, read_crontab),
    Format.GH_AW: _Reader(is_agentic_workflow, read_agentic_workflow),
    Format.OPTIO_API: _Reader(has_requests, read_requests),
}
_OF_YAML = {
    Format.CRONJOB: _Reader(is_cronjob, read_cronjobs),
    Format.KESTRA: _Reader(is_kestra, read_kestra),
    Format.GITHUB_WORKFLOW: _Reader(is_workflow, read_workflow),
    Format.OPTIO_API: _Reader(is_optio_task, read_tasks),
    Format.DAGU: _Reader(is_dagu, read_dagu),
}
# A line that a file of YAML has, even one with a mistake.
_YAML_LINE = re.compile(r"(?m)^[\w\"'{\[-][^:\n]*:(?:\s|$)|^\s*[{\[]")


def read_drafts(path: str, text: str, named: Format | None = None) -> tuple[Format, list[TaskDraft]]:
    """Return the format of a file, that which is named or else that of its content, and its drafts. Raises SourceError if the
    content is of no known format, or cannot be read."""
    for name, text_format in _OF_TEXT.items():
        if text_format.fits(text) if named is None or name in _OF_YAML else name is named:
            return name, list(text_format.read(path, text))
    unknown = SourceError("the format of the file is not known", f"name it with `--from`: {', '.join(Format)}")
    try:
        documents = read_documents(path, text)
    except SourceError:
        if named is None and not _YAML_LINE.search(text):
            raise unknown from None
        raise
    for name, yaml_format in _OF_YAML.items():
        if name is named or (named is None and any(yaml_format.fits(document.value) for document in documents)):
            if not any(isinstance(document.value, (dict, list)) for document in documents):
                raise SourceError("the file has no mapping", "correct the file, or name another format with `--from`")
            return name, list(yaml_format.read(path, documents))
    raise unknown
