"""Login by an identity provider: a small issuer of the test's own, which is honest, broken or hostile as each test wants it."""

import base64
import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256

from optio import wiring
from optio.identity import oidc
from optio.settings import Settings
from optio.store.values import RunFilter
from tests.server.api import JOB, Api
from tests.support import Answer

HOST = "localhost:8000"
CALLBACK = f"http://{HOST}/login/callback"
CLIENT, SECRET = "optio", "client secret: +/="
MARKUP = '<img src=x onerror="alert(1)">'
NOW = int(time.time())


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


KEY, OTHER_KEY = new_key(), new_key()


class Issuer:
    """A provider. A test changes `claims`, keys and signature, or replaces the answer of a path by bytes or a function."""

    def __init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.asked: list[str] = []
        self.claims: dict[str, Any] = {"groups": ["ops", "others"], "email": "ada@example.com", "email_verified": True}
        self.user_info: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.keys: list[tuple[str, rsa.RSAPrivateKey]] = [("k1", KEY)]
        self.sign: Callable[[dict[str, Any]], str] = lambda claims: jwt.encode(claims, KEY, "RS256", {"kid": "k1"})
        self.instead: dict[str, tuple[int, dict[str, str], bytes] | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.released = threading.Event()
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def code(self, address: str) -> str:
        """A code, as the provider gives it for the address to which it was sent a browser."""
        query = dict(parse_qsl(urlsplit(address).query))
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return code

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer._answer(self)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        instead = self.instead.get(request.path)
        if callable(instead):
            instead(request)
            return
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        status, headers, data = instead or (200, {}, b"")
        if instead is None:
            status, found = self._document(request, body)
            data = json.dumps(found).encode()
        request.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)

    def _document(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Any]:
        if request.path == oidc.DISCOVERY:
            made = {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "userinfo_endpoint": f"{self.url}/me",
                **self.metadata,
            }
            return 200, {name: value for name, value in made.items() if value is not None}
        if request.path == "/keys":
            keys = [jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid} for kid, key in self.keys]
            return 200, {"keys": keys}
        if request.path == "/token":
            return self._token(request, body)
        assert request.headers["Authorization"] == "Bearer access"
        return 200, {"sub": "ada-1", **self.user_info}

    def _token(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Any]:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        user, _, secret = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
        if (unquote_plus(user), unquote_plus(secret)) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant", "error_description": MARKUP}
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "ada-1",
            "iat": NOW,
            "exp": int(time.time()) + 60,
            "nonce": asked["nonce"],
        }
        claims |= self.claims
        token = self.sign({name: value for name, value in claims.items() if value is not None})
        return 200, {"access_token": "access", "token_type": "Bearer", "id_token": token}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


Serve = Callable[..., Api]


@pytest.fixture
def serve(served: Callable[..., Api], issuer: Issuer) -> Serve:
    """Makes servers by which people of the issuer sign in."""

    def make(**environ: str) -> Api:
        settings = {
            "OPTIO_OIDC_ISSUER": issuer.url,
            "OPTIO_OIDC_CLIENT_ID": CLIENT,
            "OPTIO_OIDC_CLIENT_SECRET": SECRET,
            "OPTIO_OIDC_ROLES": "readers=viewer, cn=ops,ou=acme=operator, ops=operator, chiefs=admin",
        }
        return served(dev_token=None, environ={**settings, **environ})

    return make


@pytest.fixture
def api(serve: Serve) -> Api:
    return serve()


def get(api: Api, path: str, cookie: str = "", **headers: str) -> Answer:
    sent = {"Host": HOST, **({"Cookie": cookie} if cookie else {}), **headers}
    return api.request("GET", path, headers=sent)


def begin(api: Api, next: str = "/runs", **headers: str) -> tuple[str, str]:
    """The cookie of a new sign-in, and the address at the provider."""
    answer = get(api, "/login/provider?" + urlencode({"next": next}), **headers)
    assert answer.status == 303, text_of(answer)
    return answer.headers["set-cookie"].partition(";")[0], answer.headers["location"]


def back(api: Api, cookie: str, **query: str) -> Answer:
    """The browser comes back from another site."""
    return get(api, "/login/callback?" + urlencode(query), cookie, **{"Sec-Fetch-Site": "cross-site"})


def sign_in(api: Api, issuer: Issuer, **query: str) -> Answer:
    cookie, address = begin(api)
    state = dict(parse_qsl(urlsplit(address).query))["state"]
    return back(api, cookie, **{"code": issuer.code(address), "state": state, **query})


def session_of(answer: Answer) -> str:
    """The cookie of the session, with its attributes; empty if there is none."""
    found = re.search(r"optio_8000=[^,]*", answer.headers.get("set-cookie", ""))
    return found[0] if found else ""


def led_to(answer: Answer) -> str:
    """Where the page of a person who has signed in leads by itself."""
    found = re.search(r'<meta http-equiv="refresh" content="0;url=([^"]*)">', answer.body.decode())
    assert found, text_of(answer)
    return unescape(found[1])


def text_of(answer: Answer) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.body.decode())))


def refused(answer: Answer, status: int, words: str) -> None:
    """It is a page that says why and what to do, and nobody is signed in."""
    assert (answer.status, session_of(answer)) == (status, ""), text_of(answer)
    assert re.search(words, text_of(answer)), text_of(answer)
    assert 'href="/login/provider?' in answer.body.decode()


# What works


def test_a_person_signs_in_and_acts_by_name_with_the_role_of_the_group(api: Api, issuer: Issuer) -> None:
    api.serve_task(JOB)
    answer = sign_in(api, issuer)
    cookie = session_of(answer)

    assert answer.status == 200
    assert led_to(answer) == "/runs"
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    own = {"Cookie": cookie.partition(";")[0], "Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin", "Host": HOST}
    assert api.request("POST", "/api/tasks/job/runs", headers=own).status == 202
    assert api.request("DELETE", "/api/tasks/job", headers=own).status == 403
    (run,) = api.services.store.runs(RunFilter(), limit=2).items
    assert api.services.store.events(run.id)[0].actor == "user:ada@example.com"


def test_what_is_asked_of_the_provider(api: Api, issuer: Issuer) -> None:
    answer = get(api, "/login/provider")
    query = dict(parse_qsl(urlsplit(answer.headers["location"]).query))

    assert answer.headers["location"].startswith(f"{issuer.url}/authorize?")
    assert (query["response_type"], query["code_challenge_method"], query["redirect_uri"]) == ("code", "S256", CALLBACK)
    assert query["scope"] == "openid profile email"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("optio_sign_in_8000=")
    assert {"HttpOnly", "SameSite=lax", "Max-Age=600"} <= set(cookie.split("; "))
    assert "Secure" not in cookie


def test_off_this_machine_everything_needs_https(serve: Serve, issuer: Issuer) -> None:
    far = serve(OPTIO_ALLOWED_HOSTS="optio.example")

    cookie, address = begin(far, Host="optio.example")
    query = dict(parse_qsl(urlsplit(address).query))
    answer = get(far, f"/login/callback?code={issuer.code(address)}&state={query['state']}", cookie, Host="optio.example")

    assert query["redirect_uri"] == "https://optio.example/login/callback"
    assert cookie.startswith("__Host-optio_sign_in_80=")
    assert "SameSite=Strict; Secure" in answer.headers["set-cookie"]


def test_the_login_page_names_the_provider_only_if_there_is_one(api: Api, served: Callable[..., Api], issuer: Issuer) -> None:
    without = served(dev_token=None)

    assert f"Sign in by {urlsplit(issuer.url).netloc}" in text_of(get(api, "/login?next=/runs"))
    assert 'href="/login/provider?next=/runs%3Fa%3Db"' in unescape(get(api, "/login?next=/runs?a=b").body.decode())
    assert "Sign in by" not in text_of(get(without, "/login"))
    assert get(without, "/login/provider").status == 404
    assert get(without, "/login/callback?code=x").status == 404


def test_an_older_session_does_not_stand_in_the_way_of_coming_back(api: Api, issuer: Issuer) -> None:
    cookie, address = begin(api)
    state = dict(parse_qsl(urlsplit(address).query))["state"]
    path = f"/login/callback?code={issuer.code(address)}&state={state}&session_state=x&scope=openid"

    answer = get(api, path, f"{cookie}; optio_8000=ended", **{"Sec-Fetch-Site": "same-site"})

    assert session_of(answer)


def test_a_session_lasts_through_a_restart_and_ends_in_time_and_by_signing_out(serve: Serve, issuer: Issuer) -> None:
    api = serve(OPTIO_OIDC_SESSION="1h")
    cookie = session_of(sign_in(api, issuer)).partition(";")[0]
    (row,) = api.services.store.tokens()
    again = Api(api.tasks.parent, dev_token=None)
    try:
        before = get(again, "/runs", cookie).status
        form = {"Host": HOST, "Cookie": cookie, "Origin": f"http://{HOST}"}
        again.request("POST", "/logout", raw=b"", headers=form)
        after = get(again, "/runs", cookie).status
    finally:
        again.close()

    assert row.expires_at is not None
    assert 3590 < (row.expires_at - row.created_at).total_seconds() < 3610
    assert (row.role, row.label, row.is_session) == ("operator", "ada@example.com", True)
    assert (before, after) == (200, 303)
    assert get(api, "/runs", cookie).status == 303


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["readers"], "viewer"),
        (["readers", "chiefs", "ops"], "admin"),
        (["cn=ops,ou=acme"], "operator"),
        ([f"group {number}" for number in range(10_000)] + ["readers"], "viewer"),
    ],
)
def test_the_highest_role_of_the_groups_counts(api: Api, issuer: Issuer, groups: list[str], role: str) -> None:
    issuer.claims["groups"] = groups

    assert session_of(sign_in(api, issuer))
    assert api.services.store.tokens()[0].role == role


def test_groups_and_name_may_come_as_user_info_and_groups_by_a_path(serve: Serve, issuer: Issuer) -> None:
    api = serve(OPTIO_OIDC_CLAIM="realm_access.roles")
    issuer.claims = {}
    issuer.user_info = {"preferred_username": "ada", "realm_access": {"roles": ["chiefs"]}}

    assert session_of(sign_in(api, issuer))
    assert (api.services.store.tokens()[0].label, api.services.store.tokens()[0].role) == ("ada", "admin")


def test_a_new_key_of_the_provider_is_fetched_once_and_an_unknown_one_not_again_and_again(api: Api, issuer: Issuer) -> None:
    assert session_of(sign_in(api, issuer))
    assert session_of(sign_in(api, issuer))
    known = issuer.asked.count("/keys")
    issuer.keys.append(("k2", OTHER_KEY))
    issuer.sign = lambda claims: jwt.encode(claims, OTHER_KEY, "RS256", {"kid": "k2"})

    assert session_of(sign_in(api, issuer))
    assert session_of(sign_in(api, issuer))

    assert (known, issuer.asked.count("/keys"), issuer.asked.count(oidc.DISCOVERY)) == (1, 2, 1)
    issuer.sign = lambda claims: jwt.encode(claims, new_key(), "RS256", {"kid": "k3"})
    refused(sign_in(api, issuer), 502, "not signed by one of its keys")
    assert issuer.asked.count("/keys") == 3


def test_a_key_without_an_id_and_other_algorithms_hold(api: Api, issuer: Issuer) -> None:
    issuer.sign = lambda claims: jwt.encode(claims, KEY, "PS256")

    assert session_of(sign_in(api, issuer))


# Who may not enter


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"groups": None}, "does not send the claim `groups`.*administrator must add it to the ID token"),
        ({"groups": "ops"}, "is not a list of names"),
        ({"groups": {"ops": True}}, "is not a list of names"),
        ({"groups": ["ops", 1]}, "is not a list of names"),
        ({"groups": []}, "ada@example.com is in no group with a role here: ask for one"),
        ({"groups": ["OPS", "op", MARKUP]}, "in no group with a role here"),
    ],
)
def test_nobody_enters_without_a_group_that_has_a_role(api: Api, issuer: Issuer, claims: dict[str, Any], words: str) -> None:
    issuer.claims |= claims

    refused(sign_in(api, issuer), 403, words)
    assert api.services.store.tokens() == []


@pytest.mark.parametrize(
    ("email", "verified", "enters"),
    [
        ("ada@EXAMPLE.com", True, True),
        ("ada@example.com", False, False),
        ("ada@example.com", None, False),
        ("ada@example.com.evil.example", True, False),
        ("ada@evil.example, @example.com.", True, False),
        (None, None, False),
    ],
)
def test_only_verified_addresses_of_the_domains_enter(
    serve: Serve, issuer: Issuer, email: str | None, verified: bool | None, enters: bool
) -> None:
    api = serve(OPTIO_OIDC_DOMAINS="Example.com,acme.test")
    issuer.claims |= {"email": email, "email_verified": verified}

    answer = sign_in(api, issuer)

    if enters:
        assert session_of(answer)
    else:
        refused(answer, 403, "verified e-mail address of acme.test, example.com")


def test_a_name_is_text_of_one_line_that_cannot_turn_around(api: Api, issuer: Issuer) -> None:
    issuer.claims |= {"email": f"{MARKUP}\u202egro.elpmaxe\n\0@example.com" + "x" * 500, "email_verified": True}

    answer = sign_in(api, issuer)

    (row,) = api.services.store.tokens()
    assert row.label.startswith(f"{MARKUP}\ufffdgro.elpmaxe\ufffd\ufffd@example.com")
    assert len(row.label) == 100
    assert "<img" not in answer.body.decode()
    assert "<img" not in get(api, "/runs", session_of(answer).partition(";")[0]).body.decode()


@pytest.mark.parametrize(
    ("username", "name"),
    [(None, "ada-1"), ("ada", "ada"), ("boss@example.com", "boss@example.com (ada-1)"), ("boss\uff20a", "boss\uff20a (ada-1)")],
)
def test_nobody_goes_by_an_address_that_is_not_verified(api: Api, issuer: Issuer, username: str | None, name: str) -> None:
    issuer.claims |= {"email": "boss@example.com", "email_verified": False, "preferred_username": username}

    assert session_of(sign_in(api, issuer))
    assert api.services.store.tokens()[0].label == name


# The browser's part


def test_an_answer_to_a_sign_in_of_another_browser_is_refused(api: Api, issuer: Issuer) -> None:
    cookie, address = begin(api)
    state = dict(parse_qsl(urlsplit(address).query))["state"]
    code = issuer.code(address)

    for kept, given in (
        ("", state),
        (cookie, "wrong"),
        (cookie, ""),
        ("optio_sign_in_8000=x", state),
        ("optio_sign_in_8000=...", "é"),
    ):
        refused(back(api, kept, code=code, state=given), 400, "begun in another browser.*begin again")
    assert "/token" not in issuer.asked
    assert session_of(back(api, cookie, code=code, state=state))


def test_a_code_holds_once_and_its_cookie_goes(api: Api, issuer: Issuer) -> None:
    cookie, address = begin(api)
    query = {"code": issuer.code(address), "state": dict(parse_qsl(urlsplit(address).query))["state"]}

    first = back(api, cookie, **query)

    assert re.search(r"optio_sign_in_8000=(\"\")?; .*Max-Age=0", first.headers["set-cookie"])
    refused(back(api, cookie, **query), 400, "does not take the code.*begin again")
    assert len(api.services.store.tokens()) == 1


def test_a_code_of_another_sign_in_is_worth_nothing_here(api: Api, issuer: Issuer) -> None:
    """Whoever lures a browser to come back with his own code: PKCE fails, and behind it the nonce."""
    _, foreign = begin(api)

    refused(sign_in(api, issuer, code=issuer.code(foreign)), 400, "invalid_grant")


def test_a_nonce_of_another_sign_in_is_refused(api: Api, issuer: Issuer) -> None:
    for nonce in ("other", None, 5, ""):
        issuer.claims["nonce"] = nonce
        refused(sign_in(api, issuer), 400, "belongs to another sign-in")


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\nb", "javascript:alert(1)"]
)
def test_a_sign_in_leads_to_no_other_place_than_this_server(api: Api, issuer: Issuer, target: str) -> None:
    cookie, address = begin(api, target)
    state = dict(parse_qsl(urlsplit(address).query))["state"]

    answer = back(api, cookie, code=issuer.code(address), state=state)

    assert led_to(answer) == "/"


def test_where_a_person_wanted_to_go_may_have_any_letters_and_any_length(api: Api, issuer: Issuer) -> None:
    for target, led in (('/runs?q="é;.x', '/runs?q="é;.x'), ("/runs?q=" + "é" * 900, "/")):
        cookie, address = begin(api, target)
        state = dict(parse_qsl(urlsplit(address).query))["state"]
        answer = back(api, cookie, code=issuer.code(address), state=state)
        assert led_to(answer) == led


def test_a_refusal_of_the_provider_is_shown_as_text(api: Api) -> None:
    cookie, address = begin(api)
    state = dict(parse_qsl(urlsplit(address).query))["state"]

    answer = back(api, cookie, error="access_denied", error_description=MARKUP + "\u202e", state=state)

    refused(answer, 403, r"your provider refused \(access_denied")
    assert "<img" not in answer.body.decode()


def test_an_answer_of_another_issuer_is_refused_before_its_code_is_sent(api: Api, issuer: Issuer) -> None:
    refused(sign_in(api, issuer, iss="https://other.example"), 400, "from another provider")
    assert "/token" not in issuer.asked
    assert session_of(sign_in(api, issuer, iss=issuer.url))


def test_an_issuer_that_says_it_names_itself_must_do_so(api: Api, issuer: Issuer) -> None:
    issuer.metadata["authorization_response_iss_parameter_supported"] = True

    refused(sign_in(api, issuer), 400, "lacks its issuer")


# The ID token


def unsigned(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, "", "none")


TOKENS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another key under the known id": (lambda c: jwt.encode(c, OTHER_KEY, "RS256", {"kid": "k1"}), "not signed by one of its"),
    "alg none": (unsigned, "signed by `none`"),
    "HS256 with the client's secret": (lambda c: jwt.encode(c, SECRET * 2, "HS256", {"kid": "k1"}), "signed by `HS256`"),
    "an algorithm with markup": (lambda c: _with_header(c, {"alg": MARKUP}), "signed by `<img"),
    "an algorithm that is a list": (lambda c: _with_header(c, {"alg": ["RS256"]}), "signed by"),
    "a key id that is a number": (lambda c: _with_header(c, {"alg": "RS256", "kid": 5}), "cannot be read"),
    "an extension that must be known": (
        lambda c: _with_header(c, {"alg": "RS256", "crit": ["x"]}),
        "cannot be read|not signed",
    ),
    "no token": (lambda c: None, "has no ID token"),
    "an encrypted one": (lambda c: "a.b.c.d.e", "cannot be read"),
    "nonsense": (lambda c: "é" * 1000, "cannot be read"),
    "no JSON": (lambda c: f"{_part(b'{')}.{_part(b'{')}.", "cannot be read"),
    "a list of claims": (lambda c: jwt.PyJWS().encode(b"[]", KEY, "RS256", {"kid": "k1"}), "cannot be read"),
    "deep claims": (lambda c: jwt.PyJWS().encode(b"[" * 100_000, KEY, "RS256", {"kid": "k1"}), "cannot be read"),
    "half a character": (
        lambda c: jwt.PyJWS().encode(json.dumps(c | {"groups": ["ops", "\udc80"]}).encode(), KEY, "RS256", {"kid": "k1"}),
        "cannot be read",
    ),
    "infinite claims": (
        lambda c: jwt.PyJWS().encode(json.dumps(c | {"exp": 9}).replace('"exp": 9', '"exp": 1e999').encode(), KEY, "RS256"),
        "cannot be read",
    ),
}


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _with_header(claims: dict[str, Any], header: dict[str, Any]) -> str:
    return f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}.{_part(b'x' * 256)}"


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_the_provider_did_not_sign_for_us_is_refused(api: Api, issuer: Issuer, name: str) -> None:
    issuer.sign, words = TOKENS[name]

    refused(sign_in(api, issuer), 502, words)


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "another"}, "another application .*`aud`"),
        ({"aud": ["another"]}, "another application .*`aud`"),
        ({"aud": 5}, "another application|cannot be read"),
        ({"aud": ["optio", "another"]}, "another application .*`azp`"),
        ({"azp": "another"}, "another application .*`azp`"),
        ({"iss": "https://other.example"}, "another issuer"),
        ({"exp": NOW - 120}, "has expired: the clocks"),
        ({"iat": NOW + 7200}, "from the future: the clocks"),
        ({"exp": None}, "has no `exp`"),
        ({"iat": None}, "has no `iat`"),
        ({"aud": None}, "has no `aud`"),
        ({"sub": None}, "has no `sub`"),
        ({"sub": ""}, "`sub`"),
        ({"sub": "x" * 256}, "`sub`"),
        ({"exp": "tomorrow"}, "cannot be read"),
        ({"exp": []}, "cannot be read"),
    ],
)
def test_a_token_with_claims_that_are_not_for_us_is_refused(
    api: Api, issuer: Issuer, claims: dict[str, Any], words: str
) -> None:
    issuer.claims |= claims

    refused(sign_in(api, issuer), 502, words)


def test_clocks_may_differ_by_less_than_a_minute(api: Api, issuer: Issuer) -> None:
    issuer.claims |= {"exp": int(time.time()) - 30, "iat": int(time.time()) + 30, "aud": ["optio", "another"], "azp": "optio"}

    assert session_of(sign_in(api, issuer))


def test_user_info_of_another_person_is_refused(api: Api, issuer: Issuer) -> None:
    issuer.claims = {}
    issuer.user_info = {"sub": "eve", "groups": ["chiefs"]}

    refused(sign_in(api, issuer), 502, "user info is of another person")


# The provider


PATHS = [oidc.DISCOVERY, "/keys", "/token", "/me"]
BROKEN = {
    "an error": ((500, {}, b"oops"), "is not a JSON object .status 500"),
    "an error in JSON": ((500, {}, b"{}"), "status 500"),
    "HTML": ((200, {"Content-Type": "text/html"}, b"<html>"), "is not a JSON object"),
    "a list": ((200, {}, b"[]"), "is not a JSON object"),
    "deep JSON": ((200, {}, b'{"a":' * 100_000), "is not a JSON object"),
    "bytes": ((200, {}, b"\xff\xfe"), "is not a JSON object"),
    "compressed": ((200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08"), "is not a JSON object"),
    "a redirection": ((302, {"Location": "http://127.0.0.1:1/"}, b""), "redirects"),
    "less than it says": ((200, {"Content-Length": "10"}, b"{"), "cannot be reached"),
}


def outcome(api: Api, issuer: Issuer) -> Answer:
    """A sign-in that goes as far as it can."""
    answer = get(api, "/login/provider")
    return answer if answer.status != 303 else sign_in(api, issuer)


@pytest.mark.parametrize("path", PATHS)
def test_a_provider_that_answers_nonsense_lets_nobody_in(api: Api, issuer: Issuer, path: str) -> None:
    issuer.claims = {}
    for name, (answer, words) in BROKEN.items():
        issuer.instead[path] = answer
        found = outcome(api, issuer)
        assert found.status == 502, (name, text_of(found))
        refused(found, 502, words)


def test_an_answer_without_end_is_not_read_to_the_end(api: Api, issuer: Issuer) -> None:
    sent = []

    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            for _ in range(100):
                request.wfile.write(b" " * (1 << 20))
                sent.append(1)
        except OSError:
            return

    issuer.instead["/token"] = flood

    refused(outcome(api, issuer), 502, "is larger than 1,048,576 bytes")
    assert len(sent) < 50


def test_a_provider_that_hangs_costs_a_bounded_time_and_others_are_told_so(
    serve: Serve, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr(oidc, "_MAX_AT_ONCE", 1)
    api = serve()
    entered = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        entered.set()
        issuer.released.wait(60)

    issuer.instead[oidc.DISCOVERY] = hang
    found: list[Answer] = []
    first = threading.Thread(target=lambda: found.append(get(api, "/login/provider")))
    first.start()
    entered.wait(60)
    second = get(api, "/login/provider")
    first.join(60)

    refused(second, 503, "too many people sign in at this moment: try again")
    refused(found[0], 502, "did not answer within 0 s|did not answer within 1 s")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (
            {"issuer": "https://other.example/<b>"},
            "names the issuer https://other.example/<b>: OPTIO_OIDC_ISSUER must be exactly that",
        ),
        ({"issuer": None}, "names the issuer None"),
        ({"token_endpoint": None}, "no `token_endpoint`"),
        ({"token_endpoint": "http://provider.example/token"}, "no `token_endpoint` that is an https address"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "no `authorization_endpoint`"),
        ({"jwks_uri": ["x"]}, "no `jwks_uri`"),
        ({"jwks_uri": "http://[::1"}, "no `jwks_uri`"),
        ({"userinfo_endpoint": "file:///etc/passwd"}, "no `userinfo_endpoint`"),
    ],
)
def test_a_configuration_that_leads_elsewhere_is_refused(
    api: Api, issuer: Issuer, metadata: dict[str, Any], words: str
) -> None:
    issuer.metadata = metadata

    refused(outcome(api, issuer), 502, words)


@pytest.mark.parametrize(
    "keys", [b'{"keys": 5}', b'{"keys": [5, {}, {"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "n": "!", "e": []}]}']
)
def test_keys_that_are_none_sign_nothing(api: Api, issuer: Issuer, keys: bytes) -> None:
    issuer.instead["/keys"] = (200, {}, keys)

    refused(outcome(api, issuer), 502, "has no `keys`|not signed by one of its keys|cannot be read")


def test_a_provider_that_is_away_is_said_so_and_tokens_sign_in_still(api: Api, issuer: Issuer) -> None:
    issuer.close()
    refused(get(api, "/login/provider"), 502, "cannot be reached: try again")
    form = urlencode({"token": api.token("viewer"), "next": "/runs"}).encode()

    answer = api.request(
        "POST", "/login", raw=form, headers={"Host": HOST, "Content-Type": "application/x-www-form-urlencoded"}
    )

    assert answer.status == 303


def test_a_wrong_secret_of_the_client_is_said_so(serve: Serve, issuer: Issuer) -> None:
    api = serve(OPTIO_OIDC_CLIENT_SECRET="wrong")

    refused(sign_in(api, issuer), 502, "OPTIO_OIDC_CLIENT_ID and OPTIO_OIDC_CLIENT_SECRET")


# `optio doctor`


def examined(issuer: Issuer, **environ: str) -> list[tuple[str, str]]:
    settings = {
        "OPTIO_OIDC_ISSUER": issuer.url,
        "OPTIO_OIDC_CLIENT_ID": CLIENT,
        "OPTIO_OIDC_CLIENT_SECRET": SECRET,
        "OPTIO_OIDC_ROLES": "ops=operator",
    }
    provider = wiring.identity(Settings.load({**settings, **environ}))
    assert provider is not None
    return [(each.status, each.detail) for each in provider.examine()]


def test_doctor_asks_the_provider_and_says_what_does_not_fit(issuer: Issuer) -> None:
    whole = examined(issuer)
    issuer.metadata = {"code_challenge_methods_supported": ["plain"], "scopes_supported": ["openid", "email"]}
    lacking = examined(issuer)
    issuer.keys = []
    keyless = examined(issuer)[-1]
    elsewhere = examined(issuer, OPTIO_OIDC_ISSUER=issuer.url + "/")

    assert whole == [("ok", f"people sign in by {issuer.url}; its ID tokens are verified by 1 of its keys")]
    assert [status for status, _ in lacking] == ["warning", "warning", "ok"]
    assert "does not know PKCE" in lacking[0][1]
    assert "does not list the scopes profile of OPTIO_OIDC_SCOPES" in lacking[1][1]
    assert keyless == ("error", f"{issuer.url} has no key that can sign: nobody can sign in")
    assert elsewhere[0][0] == "error"
    assert f"names the issuer {issuer.url}: OPTIO_OIDC_ISSUER must be exactly that" in elsewhere[0][1]


def certificate(directory: Path) -> Path:
    """A file with a key and a certificate of `localhost` that no authority has signed."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    made = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False).sign(KEY, SHA256())
    pem = serialization.Encoding.PEM
    secret = KEY.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "pem"
    path.write_bytes(secret + made.public_bytes(pem))
    return path


def test_tls_holds_by_the_authorities_that_one_trusts(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    issuer.server.socket = context.wrap_socket(issuer.server.socket, server_side=True)
    issuer.url = issuer.url.replace("http://127.0.0.1", "https://localhost")

    strange = examined(issuer)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    trusted = examined(issuer)
    issuer.metadata = {"token_endpoint": "http://localhost/token"}
    leaking = examined(issuer)

    assert [[status for status, _ in found] for found in (strange, trusted, leaking)] == [["error"], ["ok"], ["error"]]
    assert "CERTIFICATE_VERIFY_FAILED" in strange[0][1]
    assert "no `token_endpoint` that is an https address" in leaking[0][1]
