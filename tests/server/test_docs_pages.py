"""The documentation at `/docs`: built pages and nothing else, under a policy that lets their own scripts run."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.api import Api

PAGE = "<html><script>var a = 1</script><script src='x.js'></script><script id=\"c\">{}</script></html>"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that lets nobody in without a token, and has a built site."""
    folder = tmp_path_factory.mktemp("docs")
    site = folder / "site"
    (site / "guides").mkdir(parents=True)
    (site / "index.html").write_text(PAGE)
    (site / "guides" / "first.html").write_text("<html></html>")
    (site / "x.js").write_text("1")
    (folder / "secret.html").write_text("secret")
    (site / "link.html").symlink_to(folder / "secret.html")
    made = Api(folder, dev_token=None, environ={"OPTIO_DOCS": str(site)})
    yield made
    made.close()


def test_the_front_leads_to_the_first_page_without_a_token(api: Api) -> None:
    answer = api.get("/docs")

    assert (answer.status, answer.headers["location"]) == (307, "/docs/index.html")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("guides/first.html", "text/html; charset=utf-8"),
        ("x.js", "text/javascript; charset=utf-8"),
    ],
)
def test_a_file_of_the_site_comes_with_its_type(api: Api, path: str, kind: str) -> None:
    answer = api.get(f"/docs/{path}")

    assert (answer.status, answer.headers["content-type"]) == (200, kind)


def test_a_page_may_run_the_scripts_that_stand_in_it_and_no_others(api: Api) -> None:
    policy = api.get("/docs/index.html").headers["content-security-policy"]
    digests = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (b"var a = 1", b"{}")]

    assert f"script-src 'self' 'sha256-{digests[0]}' 'sha256-{digests[1]}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe-inline" not in policy


@pytest.mark.parametrize("path", ["none.html", "guides", "link.html", "..%2fsecret.html", "x.js/y"])
def test_what_is_no_file_of_the_site_is_not_found(api: Api, path: str) -> None:
    answer = api.get(f"/docs/{path}")

    assert answer.status == 404
    assert "secret" not in answer.json["title"]


@pytest.mark.parametrize("path", ["/docs", "/docs/index.html"])
def test_without_built_pages_the_answer_says_how_to_build_them(tmp_path: Path, path: str) -> None:
    api = Api(tmp_path, dev_token=None, environ={"OPTIO_DOCS": str(tmp_path / "none")})
    try:
        answer = api.get(path)
    finally:
        api.close()

    assert answer.status == 404
    assert "mkdocs build --strict" in answer.json["detail"]
    assert "OPTIO_DOCS" in answer.json["detail"]
