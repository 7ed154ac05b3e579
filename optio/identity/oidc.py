"""OpenID Connect: the code flow with PKCE, state and nonce, for a client with a secret. PyJWT verifies signatures and claims.
Requests are made here, so that none can hang, follow a redirection or fill the memory.

A provider is trusted for who people are, and for nothing else: if it is slow, broken or hostile, nobody signs in.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import os
import secrets
import ssl
import time
import unicodedata
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus, urlencode, urlsplit

import httpx2
import jwt

from optio.errors import Malformed
from optio.identity.base import Person, ProviderReply, SignIn, SignInFailed, readable
from optio.model import json_body
from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult

T = TypeVar("T")
DISCOVERY: Final = "/.well-known/openid-configuration"
# Signatures by a key that the provider alone has: with HS256 whoever knows the client's secret could sign, with `none` anyone.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_MAX_ANSWER_BYTES = 1 << 20
_MAX_KEYS = 100
_MAX_SUBJECT_LENGTH = 255
_TIMEOUT_S = 10.0
_CACHE_S = 3600.0
_LEEWAY_S = 60
# Anybody may come back with a code that he made up, and each is asked about.
_MAX_AT_ONCE = 8
_REQUIRED_CLAIMS = ["iss", "aud", "sub", "exp", "iat"]
_TRY_AGAIN = "try again, and tell an administrator if it stays so"


@cache
def _tls(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    """Return what verifies hosts by the authorities that these variables name. To read them takes 20 ms and more."""
    return httpx2.create_ssl_context()


class OpenIdProvider:
    """An `IdentityProvider` for one client of one issuer. `claim` names the claim with a person's groups, or its path with
    dots. With `domains`, only people with a verified e-mail address of these may enter."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        *,
        claim: str,
        scopes: Collection[str],
        domains: Collection[str] = (),
    ) -> None:
        # It logs every request, with the code in it.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._issuer, self._client_id, self._client_secret = issuer, client_id, client_secret
        self._claim, self._scopes, self._domains = claim, tuple(scopes), frozenset(domains)
        self._cache: dict[str, tuple[float, Any]] = {}
        self._asking = 0

    @property
    def host(self) -> str:
        return urlsplit(self._issuer).netloc

    async def begin(self, redirect_uri: str) -> tuple[SignIn, str]:
        async with self._client() as client:
            metadata = await self._metadata(client)
        sign_in = SignIn(state=secrets.token_urlsafe(32), nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(sign_in.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._scopes),
            "state": sign_in.state,
            "nonce": sign_in.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = metadata["authorization_endpoint"]
        return sign_in, f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(query, quote_via=quote)}"

    async def finish(self, sign_in: SignIn, reply: ProviderReply, redirect_uri: str) -> Person:
        # Another provider's code is not sent to this one (RFC 9207).
        if reply.issuer and reply.issuer != self._issuer:
            raise SignInFailed(f"the answer comes from another provider than {self._issuer}: begin again", 400)
        if reply.error:
            complaint = f"{readable(reply.error)}: {readable(reply.error_description, 200)}".removesuffix(": ")
            raise SignInFailed(f"your provider refused ({complaint}): begin again, or ask its administrator", 403)
        if not reply.code:
            raise SignInFailed("your provider sent no code: begin again", 400)
        async with self._client() as client:
            metadata = await self._metadata(client)
            if not reply.issuer and metadata.get("authorization_response_iss_parameter_supported") is True:
                raise SignInFailed("your provider's answer lacks its issuer, which it said it would send: begin again", 400)
            tokens = await self._redeem(client, metadata, reply.code, sign_in.verifier, redirect_uri)
            claims = await self._claims(client, metadata, tokens.get("id_token"), sign_in.nonce)
            if not self._are_enough(claims):
                claims = {**await self._user_info(client, metadata, tokens, claims["sub"]), **claims}
        return self._person(claims)

    def examine(self) -> Iterator[ProbeResult]:
        try:
            probes = asyncio.run(self._examine())
        except SignInFailed as err:
            detail = f" ({err.detail})" if err.detail else ""
            hint = "check OPTIO_OIDC_ISSUER, and that this machine reaches it; SSL_CERT_FILE names authorities of your own"
            yield ProbeResult("sign-in", ERROR, f"nobody can sign in by {self._issuer}: {err}{detail}", hint)
            return
        yield from probes

    async def _examine(self) -> list[ProbeResult]:
        async with self._client() as client:
            metadata = await self._metadata(client)
            keys = await self._keys(client, metadata, fresh=True)
        probes: list[ProbeResult] = []
        if "S256" not in _texts(metadata.get("code_challenge_methods_supported", ["S256"])):
            detail = f"{self._issuer} does not know PKCE with S256, so a stolen code could be used"
            probes.append(ProbeResult("sign-in", WARNING, detail, "turn it on at the provider"))
        unknown = [scope for scope in self._scopes if scope not in _texts(metadata.get("scopes_supported", self._scopes))]
        if unknown:
            detail = f"{self._issuer} does not list the scopes {', '.join(unknown)} of OPTIO_OIDC_SCOPES"
            probes.append(ProbeResult("sign-in", WARNING, detail, "leave them out, or define them at the provider"))
        if not keys:
            detail = f"{self._issuer} has no key that can sign: nobody can sign in"
            hint = "let it sign ID tokens by RS256, ES256 or another asymmetric algorithm"
            return [*probes, ProbeResult("sign-in", ERROR, detail, hint)]
        return [
            *probes,
            ProbeResult(
                "sign-in", OK, f"people sign in by {self._issuer}; its ID tokens are verified by {len(keys)} of its keys"
            ),
        ]

    # Requests

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx2.AsyncClient]:
        """Yield a client for one step of a sign-in, which ends in time. Raises SignInFailed for everything that goes wrong
        between."""
        if self._asking >= _MAX_AT_ONCE:
            raise SignInFailed("too many people sign in at this moment: try again", 503)
        self._asking += 1
        try:
            tls = _tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
            client = httpx2.AsyncClient(verify=tls, timeout=_TIMEOUT_S, follow_redirects=False)
            async with asyncio.timeout(_TIMEOUT_S), client:
                yield client
        except TimeoutError as err:
            raise SignInFailed(f"your provider did not answer within {_TIMEOUT_S:.0f} s: {_TRY_AGAIN}") from err
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as err:
            detail = f"{type(err).__name__}: {readable(str(err), 200)}"
            raise SignInFailed(f"your provider cannot be reached: {_TRY_AGAIN}", detail=detail) from err
        finally:
            self._asking -= 1

    async def _ask(self, client: httpx2.AsyncClient, noun: str, address: str, **request: Any) -> tuple[int, dict[str, Any]]:
        """Send a request; return status and JSON object of the answer. A body that is compressed is not read: a small one may
        unpack to gigabytes."""
        method = "POST" if "content" in request else "GET"
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **request.pop("headers", {})}
        async with client.stream(method, address, headers=headers, **request) as answer:
            status = answer.status_code
            if 300 <= status < 400:
                raise self._broken(noun, "redirects", "OPTIO_OIDC_ISSUER must be its final address")
            data = bytearray()
            async for part in answer.aiter_raw():
                data += part
                if len(data) > _MAX_ANSWER_BYTES:
                    raise self._broken(noun, f"is larger than {_MAX_ANSWER_BYTES:,} bytes")
        try:
            document = json_body.decode(bytes(data))
        except Malformed:
            document = None
        if not isinstance(document, dict):
            raise self._broken(noun, f"is not a JSON object (status {status})")
        return status, document

    def _broken(self, noun: str, fault: str, cure: str = "") -> SignInFailed:
        return SignInFailed(f"your provider's {noun} {fault}: {cure or _TRY_AGAIN}")

    async def _fetch(
        self, client: httpx2.AsyncClient, noun: str, address: str, check: Callable[[dict[str, Any]], T], *, fresh: bool = False
    ) -> T:
        """Return what `check` makes of a document of the provider, as it was within the last hour unless it must be `fresh`."""
        since, cached = self._cache.get(noun, (0.0, None))
        if cached is not None and not fresh and time.monotonic() - since < _CACHE_S:
            found: T = cached
            return found
        status, document = await self._ask(client, noun, address)
        if status != 200:
            raise self._broken(noun, f"has the status {status}")
        found = check(document)
        self._cache[noun] = (time.monotonic(), found)
        return found

    async def _metadata(self, client: httpx2.AsyncClient) -> dict[str, Any]:
        return await self._fetch(client, "configuration", self._issuer.rstrip("/") + DISCOVERY, self._check_metadata)

    def _check_metadata(self, document: dict[str, Any]) -> dict[str, Any]:
        if document.get("issuer") != self._issuer:
            issuer = readable(str(document.get("issuer")))
            cure = f"OPTIO_OIDC_ISSUER must be exactly that, and is {self._issuer}"
            raise self._broken("configuration", f"names the issuer {issuer}", cure)
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
            address = document.get(name)
            if name == "userinfo_endpoint" and address is None:
                continue
            if not isinstance(address, str) or not _is_safe(address, self._issuer):
                raise self._broken("configuration", f"has no `{name}` that is an https address")
        return document

    async def _keys(
        self, client: httpx2.AsyncClient, metadata: Mapping[str, Any], *, fresh: bool = False
    ) -> list[dict[str, Any]]:
        return await self._fetch(client, "list of keys", metadata["jwks_uri"], self._check_keys, fresh=fresh)

    def _check_keys(self, document: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the keys that may have signed an ID token."""
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise self._broken("list of keys", "has no `keys`")
        usable_keys = [key for key in keys if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP")]
        return [key for key in usable_keys if key.get("use", "sig") == "sig"][:_MAX_KEYS]

    async def _redeem(
        self, client: httpx2.AsyncClient, metadata: Mapping[str, Any], code: str, verifier: str, redirect_uri: str
    ) -> dict[str, Any]:
        """Return what the provider gives for a code, which it does once."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        methods = _texts(metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]))
        if "client_secret_basic" in methods or "client_secret_post" not in methods:
            pair = f"{quote_plus(self._client_id)}:{quote_plus(self._client_secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        status, reply = await self._ask(
            client, "answer for a code", metadata["token_endpoint"], content=urlencode(form).encode(), headers=headers
        )
        if status == 200:
            return reply
        fault = readable(str(reply.get("error", f"status {status}")))
        detail = readable(str(reply.get("error_description", "")), 200)
        if fault == "invalid_client":
            cure = "an administrator must check OPTIO_OIDC_CLIENT_ID and OPTIO_OIDC_CLIENT_SECRET"
            raise SignInFailed(f"your provider does not know this server ({fault}): {cure}", detail=detail)
        if fault == "invalid_grant":
            words = f"your provider does not take the code ({fault}), which holds once and for a short time: begin again"
            raise SignInFailed(words, 400, detail)
        raise SignInFailed(f"your provider gave no token ({fault}): {_TRY_AGAIN}", detail=detail)

    async def _user_info(
        self, client: httpx2.AsyncClient, metadata: Mapping[str, Any], tokens: Mapping[str, Any], subject: str
    ) -> dict[str, Any]:
        """Return the claims that the provider gives beside the ID token; none if it has no place for them."""
        address, bearer = metadata.get("userinfo_endpoint"), tokens.get("access_token")
        if address is None or not isinstance(bearer, str) or not bearer.isascii() or not bearer.isprintable():
            return {}
        noun = "user info"
        status, reply = await self._ask(client, noun, address, headers={"Authorization": f"Bearer {bearer}"})
        if status != 200:
            raise self._broken(noun, f"has the status {status}")
        if reply.get("sub") != subject:
            raise self._broken(noun, "is of another person")
        return reply

    # The ID token

    async def _claims(self, client: httpx2.AsyncClient, metadata: Mapping[str, Any], token: Any, nonce: str) -> dict[str, Any]:
        if not isinstance(token, str):
            raise self._broken("answer for a code", "has no ID token", "OPTIO_OIDC_SCOPES must contain openid")
        claims = None
        # A provider that changes its keys signs by one that is not known yet.
        for fresh in (False, True):
            claims = claims or self._verify(token, await self._keys(client, metadata, fresh=fresh))
        if claims is None:
            raise self._broken("ID token", "is not signed by one of its keys")
        audience, party = claims["aud"], claims.get("azp")
        several = isinstance(audience, list) and len(audience) > 1
        if party != self._client_id and (several or party is not None):
            raise self._broken("ID token", "was made for another application (`azp`)")
        given = claims.get("nonce")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise SignInFailed("your provider's ID token belongs to another sign-in (`nonce`): begin again", 400)
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= _MAX_SUBJECT_LENGTH:
            raise self._broken("ID token", "has a `sub` that is not a short text")
        return claims

    def _verify(self, token: str, keys: Collection[Mapping[str, Any]]) -> dict[str, Any] | None:
        """Return the claims of a token that one of the keys signed, else None. Raises SignInFailed for one that holds for
        nobody here."""
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in ALGORITHMS:
                name = readable(str(algorithm))
                raise self._broken("ID token", f"is signed by `{name}`", "let it sign by RS256 or ES256")
            for key in keys:
                if "kid" in header and key.get("kid") not in (header["kid"], None):
                    continue
                if key.get("alg") not in (algorithm, None):
                    continue
                try:
                    claims: dict[str, Any] = jwt.decode(
                        token,
                        jwt.PyJWK(dict(key), algorithm),
                        algorithms=[algorithm],
                        audience=self._client_id,
                        issuer=self._issuer,
                        leeway=_LEEWAY_S,
                        options={"require": _REQUIRED_CLAIMS, "enforce_minimum_key_length": True},
                    )
                except (jwt.InvalidSignatureError, jwt.InvalidKeyError, jwt.PyJWKError):
                    continue
                # Python reads halves of characters from JSON, which no database takes.
                json.dumps(claims, ensure_ascii=False).encode()
                return claims
        except jwt.ExpiredSignatureError as err:
            raise self._broken("ID token", "has expired", "the clocks of provider and server must agree") from err
        except jwt.ImmatureSignatureError as err:
            raise self._broken("ID token", "is from the future", "the clocks of provider and server must agree") from err
        except jwt.InvalidAudienceError as err:
            raise self._broken("ID token", "was made for another application (`aud`)", "check OPTIO_OIDC_CLIENT_ID") from err
        except jwt.InvalidIssuerError as err:
            raise self._broken("ID token", "comes from another issuer (`iss`)") from err
        except jwt.MissingRequiredClaimError as err:
            raise self._broken("ID token", f"has no `{err.claim}`") from err
        except (jwt.PyJWTError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as err:
            raise self._broken("ID token", "cannot be read") from err
        return None

    # People

    def _are_enough(self, claims: Mapping[str, Any]) -> bool:
        has_name = any(isinstance(claims.get(name), str) for name in ("email", "preferred_username"))
        return has_name and self._groups(claims) is not None and (not self._domains or "email" in claims)

    def _groups(self, claims: Mapping[str, Any]) -> Any:
        """Return the value of the claim, which is one of this name, or else is found by the parts of its path."""
        if self._claim in claims:
            return claims[self._claim]
        value: Any = claims
        for part in self._claim.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _person(self, claims: Mapping[str, Any]) -> Person:
        subject: str = claims["sub"]
        email = claims.get("email")
        verified = email if isinstance(email, str) and claims.get("email_verified") is True else None
        name = readable(verified or _username(claims.get("preferred_username"), subject) or subject)
        if self._domains and (verified is None or verified.rpartition("@")[2].lower() not in self._domains):
            domains = ", ".join(sorted(self._domains))
            cure = f"sign in with a verified e-mail address of {domains} (OPTIO_OIDC_DOMAINS)"
            raise SignInFailed(f"{name} may not enter: {cure}", 403)
        groups = self._groups(claims)
        claim_text = f"the claim `{self._claim}`, which should list your groups (OPTIO_OIDC_CLAIM)"
        if groups is None:
            raise SignInFailed(f"your provider does not send {claim_text}: its administrator must add it to the ID token", 403)
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise SignInFailed(
                f"your provider sends {claim_text}, and it is not a list of names: its administrator must change it", 403
            )
        return Person(subject=subject, name=name, groups=frozenset(groups))


def _username(value: Any, subject: str) -> str:
    """Return the name that a person chose. One that looks like an address is told from a verified one by the subject."""
    if not isinstance(value, str):
        return ""
    return f"{readable(value, 40)} ({subject})" if "@" in unicodedata.normalize("NFKC", value) else value


def _is_safe(address: str, issuer: str) -> bool:
    """Return whether secrets may be sent to an address: by https, or on this machine if the issuer is there too."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or not address.isascii() or not address.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname) and issuer.startswith("http:"))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []
