"""The pages that write task files, over HTTP, as a browser without scripts uses them."""

import json
import re
from collections.abc import Callable
from html import unescape

import pytest
import yaml

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.server.pages.task_form import FormError, apply_fields, form_fields, read_fields
from optio.server.pages.task_presets import PRESETS
from tests.server.api import Api
from tests.server.test_pages import Browser, Tags, every_run, html, text_of
from tests.support import Answer

HOSTILE = '<img src=x onerror="alert(1)"></textarea><script>alert(2)</script>\u202e'
TEXT = f"""\
# Ask Ada before you change this.
name: Small   # really
description: {json.dumps(HOSTILE)}
agentRuntime: command
command: "true"
promptTemplate: Look at {{{{REPO}}}}
paramsSchema:
  type: object
  properties:
    REPO: {{type: string, default: storefront, maxLength: 100}}
  additionalProperties: false
triggers:
  - {{type: schedule, config: {{cronExpression: "0 9 * * 1-5", timezone: Europe/Berlin, overlap: skip}}}}
"""


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    """A server that writes files, and serves the task `small`."""
    made = served(dev_token=None, environ={"OPTIO_WRITES": "files"})
    made.serve_task(TEXT, "small")
    return made


def fields_of(answer: Answer) -> dict[str, str]:
    """The fields of the form on a page, as a browser would send them back."""
    page = answer.body.decode()
    found: dict[str, str] = {}
    for tag, attrs in Tags(answer).found:
        if tag == "input" and attrs.get("name"):
            found[str(attrs["name"])] = attrs.get("value") or ""
    for name, value in re.findall(r'<textarea[^>]* name="([^"]*)"[^>]*>\n(.*?)</textarea>', page, re.DOTALL):
        found[name] = unescape(value)
    for name, options in re.findall(r'<select[^>]* name="([^"]*)"[^>]*>(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r'<option value="([^"]*)" selected', options)
        found[name] = unescape(chosen[1]) if chosen else ""
    return found


def tree(api: Api) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(api.tasks.iterdir()) if path.is_file()}


# The form and the text


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_task_without_a_warning_and_the_form_shows_it(name: str) -> None:
    text = PRESETS[name].text
    found = compile_tree(MemoryTree({"task.yaml": text})).diagnostics

    assert [each.message for each in found if each.severity != "info"] == []
    assert [field.name for field in form_fields(read_fields(text), text) if field.fixed] == []


def test_a_changed_field_changes_its_key_and_leaves_every_other_character() -> None:
    was = read_fields(TEXT)
    assert was is not None

    after = apply_fields(TEXT, was, {**was, "name": "Tiny", "maxTurns": "7", "schedule": "0 * * * *", "secrets": "A_KEY B_KEY"})

    assert after == TEXT.replace("name: Small ", "name: Tiny ").replace('"0 9 * * 1-5"', "'0 * * * *'") + (
        "maxTurns: 7\nenvironment:\n  secrets:\n    - A_KEY\n    - B_KEY\n"
    )


def test_a_changed_webhook_keeps_what_the_form_does_not_show() -> None:
    config = "    config:\n      path: a\n      secret: {name: S}\n      paramMapping: {REPO: $.repo}\n"
    text = f"name: A\ntriggers:\n  - type: webhook\n{config}"
    was = read_fields(text) or {}

    assert apply_fields(text, was, {**was, "hookPath": "b"}) == text.replace("path: a", "path: b")


@pytest.mark.parametrize(
    ("lines", "schema"),
    [
        ("REPO", {"properties": {"REPO": {"type": "string", "maxLength": 100}}, "required": ["REPO"]}),
        (
            "REPO = a b\nN: integer = 3",
            {
                "properties": {
                    "REPO": {"type": "string", "maxLength": 100, "default": "a b"},
                    "N": {"type": "integer", "default": 3},
                }
            },
        ),
        ("", None),
    ],
)
def test_parameters_are_lines_and_their_other_keywords_stay(lines: str, schema: dict[str, object] | None) -> None:
    was = read_fields(TEXT)
    assert was is not None

    after = apply_fields(TEXT, was, {**was, "params": lines})

    wanted = None if schema is None else {"type": "object", "additionalProperties": False, **schema}
    assert yaml.safe_load(after).get("paramsSchema") == wanted
    assert ("paramsSchema" in after) == (schema is not None)
    assert (read_fields(after) or {})["params"] == lines


@pytest.mark.parametrize("lines", ["RE PO", "N: list", "1A = 3", "= 4"])
def test_a_line_that_is_no_parameter_is_refused(lines: str) -> None:
    was = read_fields(TEXT)
    assert was is not None
    with pytest.raises(FormError, match="the parameter"):
        apply_fields(TEXT, was, {**was, "params": lines})


@pytest.mark.parametrize(
    "text", ["", "- 1", "name: [", "a: &x 1\nb: *x\n", "\x00", "triggers: 3\nenvironment: []\nparamsSchema: []\n"]
)
def test_a_text_of_any_form_is_shown(api: Api, text: str) -> None:
    browser = Browser(api, "admin")

    answer = browser.submit("/tasks/new", text=text, was="{}", act="check", **{"f.name": "Changed"})

    assert answer.status in (200, 422)
    assert "Findings" in text_of(answer)


# New task


def test_a_new_task_is_made_by_the_form_written_and_served(api: Api) -> None:
    browser = Browser(api, "admin")
    form = fields_of(browser.get("/tasks/new?preset=command"))

    shown = browser.submit("/tasks/new", **{**form, "f.name": "Disk of ours", "f.schedule": "0 0 * * *", "act": "yaml"})
    written = browser.submit("/tasks/new", **{**fields_of(shown), "act": "write"})

    assert "name: Disk of ours" in html(shown)
    assert "the prompt comes on its standard input" in fields_of(shown)["text"]
    assert (written.status, written.headers.get("location")) == (303, "/tasks/disk-of-ours")
    assert tree(api)["disk-of-ours.yaml"] == fields_of(shown)["text"]
    assert "00:00:00" in text_of(browser.get("/tasks/disk-of-ours"))


def test_a_check_says_what_the_task_will_do_and_writes_nothing(api: Api) -> None:
    browser = Browser(api, "operator")
    form = fields_of(browser.get("/tasks/new?preset=nightly-report"))

    answer = browser.submit("/tasks/new", **{**form, "f.budgetUsd": "2.00", "act": "check"})

    said = text_of(answer)
    assert "1 task added; worst case $0.00" in said
    assert "gets the secret ANTHROPIC_API_KEY" in said
    assert "has no value on this server" in said
    assert list(tree(api)) == ["small.yaml"]


def test_errors_are_said_with_their_lines_and_nothing_is_written_or_lost(api: Api) -> None:
    browser = Browser(api, "admin")
    form = fields_of(browser.get("/tasks/new"))
    text = form["text"].replace("timeout: 20m", "timeout: soon  # my note")

    answer = browser.submit("/tasks/new", **{**form, "text": text, "act": "write"})

    (finding,) = [attrs for tag, attrs in Tags(answer).found if tag == "li" and attrs.get("class") == "error"]
    assert answer.status == 422
    assert finding["data-line"] == str(text.splitlines().index("timeout: soon  # my note") + 1)
    assert "# my note" in fields_of(answer)["text"]
    assert "Correct the errors first" in text_of(answer)
    assert list(tree(api)) == ["small.yaml"]


def test_a_form_over_a_broken_text_keeps_both(api: Api) -> None:
    browser = Browser(api, "admin")
    form = fields_of(browser.get("/tasks/new"))

    answer = browser.submit("/tasks/new", **{**form, "text": "name: [\n", "f.name": "My name", "act": "write"})

    assert answer.status == 422
    assert "cannot be put into the YAML" in text_of(answer)
    assert (fields_of(answer)["text"], fields_of(answer)["f.name"]) == ("name: [\n", "My name")


def test_the_name_of_another_task_is_refused(api: Api) -> None:
    browser = Browser(api, "admin")
    form = fields_of(browser.get("/tasks/new"))

    answer = browser.submit("/tasks/new", **{**form, "f.name": "Small", "act": "write"})

    assert answer.status == 422
    assert "the task `small` exists already" in text_of(answer)


def test_an_unknown_preset_is_said_as_a_page(api: Api) -> None:
    assert Browser(api, "operator").get("/tasks/new?preset=nothing").status == 404


def test_only_an_admin_has_the_button_that_writes(api: Api) -> None:
    pages = [Browser(api, role).get("/tasks/small/edit") for role in ("operator", "admin")]

    assert ['value="write"' in html(page) for page in pages] == [False, True]


def test_where_writes_are_denied_the_page_shows_what_to_commit(served: Callable[..., Api]) -> None:
    api = served(dev_token=None)
    api.serve_task(TEXT, "small")
    browser = Browser(api, "operator")
    form = fields_of(browser.get("/tasks/new?preset=command"))

    answer = browser.submit("/tasks/new", **{**form, "act": "write"})

    assert answer.status == 200
    assert "git add disk-usage.yaml" in text_of(answer)
    assert unescape(re.search(r'<pre class="yaml">(.*?)</pre>', answer.body.decode(), re.DOTALL)[1]) == form["text"]  # type: ignore[index]
    assert list(tree(api)) == ["small.yaml"]
    assert "git rm small.yaml" in text_of(Browser(api, "admin").get("/tasks/small/delete"))


# Edit


def test_an_edit_keeps_comments_and_shows_markup_as_text(api: Api) -> None:
    browser = Browser(api, "admin")
    page = browser.get("/tasks/small/edit")
    form = fields_of(page)

    answer = browser.submit("/tasks/small/edit", **{**form, "f.promptTemplate": "Look twice at {{REPO}}", "act": "write"})

    assert form["text"] == TEXT
    assert [tag for tag, attrs in Tags(page).found if tag in ("img", "style") or "style" in attrs] == []
    assert "unsafe" not in page.headers["content-security-policy"]
    assert answer.headers["location"] == "/tasks/small"
    assert tree(api)["small.yaml"] == TEXT.replace("Look at {{REPO}}", "'Look twice at {{REPO}}'")


def test_a_file_with_windows_line_ends_keeps_them(api: Api) -> None:
    (api.tasks / "small.yaml").write_bytes(TEXT.replace("\n", "\r\n").encode())
    browser = Browser(api, "admin")
    form = fields_of(browser.get("/tasks/small/edit"))

    browser.submit("/tasks/small/edit", **{**form, "text": form["text"].replace("Look at", "See"), "act": "write"})

    assert (api.tasks / "small.yaml").read_bytes() == TEXT.replace("Look at", "See").replace("\n", "\r\n").encode()


def test_of_two_people_the_second_sees_both_versions_and_loses_nothing(api: Api) -> None:
    ada, bob = Browser(api, "admin"), Browser(api, "admin")
    forms = [fields_of(each.get("/tasks/small/edit")) for each in (ada, bob)]
    ada.submit("/tasks/small/edit", **{**forms[0], "f.promptTemplate": "What Ada wrote {{REPO}}", "act": "write"})

    answer = bob.submit("/tasks/small/edit", **{**forms[1], "f.promptTemplate": "What Bob wrote {{REPO}}", "act": "write"})
    kept = tree(api)["small.yaml"]
    again = bob.submit("/tasks/small/edit", **{**fields_of(answer), "act": "write"})

    assert answer.status == 409
    assert "-promptTemplate: 'What Ada wrote" in text_of(answer)
    assert "+promptTemplate: 'What Bob wrote" in text_of(answer)
    assert "What Ada wrote" in kept
    assert again.status == 303
    assert "What Bob wrote" in tree(api)["small.yaml"]


def test_where_writes_are_denied_nobody_is_told_to_commit_over_a_newer_file(served: Callable[..., Api]) -> None:
    api = served(dev_token=None)
    api.serve_task(TEXT, "small")
    browser = Browser(api, "operator")
    form = fields_of(browser.get("/tasks/small/edit"))
    (api.tasks / "small.yaml").write_text(TEXT + "# what a pull request added\n")

    answer = browser.submit("/tasks/small/edit", **{**form, "f.promptTemplate": "See {{REPO}}", "act": "write"})

    assert answer.status == 409
    assert "-# what a pull request added" in text_of(answer)


def test_a_task_that_was_deleted_meanwhile_does_not_take_the_text_with_it(api: Api) -> None:
    browser = Browser(api, "admin")
    form = fields_of(browser.get("/tasks/small/edit"))
    browser.submit("/tasks/small/delete", **fields_of(browser.get("/tasks/small/delete")))

    answer = browser.submit("/tasks/small/edit", **{**form, "text": form["text"] + "# typed\n", "act": "write"})

    again = browser.submit("/tasks/new", **{**fields_of(answer), "act": "write"})

    assert answer.status == 409
    assert "Your text is kept" in text_of(answer)
    assert (again.status, tree(api)["small.yaml"]) == (303, TEXT + "# typed\n")


@pytest.mark.parametrize(
    ("path", "act", "typed"),
    [("/tasks/new", "write", "text"), ("/tasks/small/edit", "write", "text"), ("/tasks/small/run", "run", "p.REPO")],
)
def test_a_login_that_ends_in_the_middle_of_a_form_loses_nothing(api: Api, path: str, act: str, typed: str) -> None:
    browser = Browser(api, "admin")
    form = fields_of(browser.get(path))
    form |= {typed: form[typed] + "\n# typed <b>&\n", "act": act}
    browser.cookie = ""

    login = browser.submit(path, **form)
    wrong = browser.submit("/login", **{**fields_of(login), "token": "nothing"})
    done = browser.submit("/login", **{**fields_of(wrong), "token": browser.token})
    browser.cookie = done.headers["set-cookie"].partition(";")[0]
    back = browser.submit(path, **{**fields_of(done), "act": "check"})

    assert [each.status for each in (login, wrong, done)] == [401, 401, 200]
    assert "What you typed is kept" in text_of(login)
    assert f'action="{path}"' in html(done)
    assert fields_of(back)[typed].rstrip() == form[typed].rstrip()
    assert tree(api) == {"small.yaml": TEXT}
    assert every_run(api) == []


def test_a_login_does_not_send_a_kept_form_to_another_server(api: Api) -> None:
    browser = Browser(api, "admin")

    answer = browser.submit("/login", token=browser.token, kept_path="//evil.example/tasks", **{"kept.text": "x"})

    assert 'action="/"' in html(answer)


# Delete


def test_a_deletion_says_what_it_does_and_removes_the_file(api: Api) -> None:
    browser = Browser(api, "admin")
    question = browser.get("/tasks/small/delete")

    answer = browser.submit("/tasks/small/delete", **fields_of(question))

    assert "Its schedule ends at once" in text_of(question)
    assert "No run waits or runs" in text_of(question)
    assert (answer.status, answer.headers["location"], tree(api)) == (303, "/tasks", {})
    assert browser.get("/tasks/small").status == 404


def test_a_task_that_has_changed_since_the_question_is_not_deleted(api: Api) -> None:
    browser = Browser(api, "admin")
    form = fields_of(browser.get("/tasks/small/delete"))
    api.serve_task(TEXT.replace("Look at", "See"), "small")

    answer = browser.submit("/tasks/small/delete", **form)

    assert answer.status == 412
    assert list(tree(api)) == ["small.yaml"]


def test_a_file_of_the_largest_size_is_edited_and_a_larger_one_is_refused(api: Api) -> None:
    browser = Browser(api, "admin")
    form = fields_of(browser.get("/tasks/small/edit"))
    most = TEXT + "# é\n" * ((1_000_000 - len(TEXT)) // 5)

    kept = browser.submit("/tasks/small/edit", **{**form, "text": most, "act": "write"})
    refused = browser.submit("/tasks/small/edit", **{**form, "text": most * 10, "act": "write"})

    assert (kept.status, refused.status) == (303, 413)
    assert tree(api)["small.yaml"] == most
