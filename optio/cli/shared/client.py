"""The HTTP client of the command line, built on the standard library alone, so that every command starts quickly."""

import argparse
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from optio.cli.shared import contexts, dev_token, flags
from optio.errors import OptioError
from optio.settings import LOOPBACK, Settings


class ServerRefused(OptioError):
    """A refusal by the server: its problem document as a sentence. `status` is 0 if the server could not be reached."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the server's URL and token, and for both by name."""
    flags.add_setting_flags(parser, "url", "token")
    contexts.add_arguments(parser)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: the library would send the token along, also to another host. The API has none."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Client:
    """Requests to one server, with the token of the settings or of the `optio dev` that runs here. Raises SettingsError."""

    def __init__(self, settings: Settings, *, timeout_s: float = 60) -> None:
        self._timeout_s = timeout_s
        self.base = settings.server_url
        # A proxy from the environment would see the token, and cannot reach this machine's loopback.
        proxies = [urllib.request.ProxyHandler({})] if urllib.parse.urlsplit(self.base).hostname in LOOPBACK else []
        self._opener = urllib.request.build_opener(_NoRedirect(), *proxies)
        token = settings.token or dev_token.find(settings)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the JSON of a successful response; raises ServerRefused with every error of the problem document."""
        with self._open(method, path, body=body, raw=raw, headers=headers or {}, query=query or {}) as response:
            try:
                return json.loads(response.read())
            except (OSError, http.client.HTTPException) as err:
                raise self._broke(err) from err

    def events(self, path: str, *, after: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield server-sent events as (name, data). A broken connection is resumed after the last id, up to ten times in a
        row."""
        last, failures = str(after), 0
        while True:
            try:
                headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
                with self._open("GET", path, body=None, raw=None, headers=headers, query={}) as response:
                    for event in _sse(response):
                        failures = 0
                        last = event.get("id", last)
                        if "data" in event:
                            yield event.get("event", "message"), json.loads(event["data"])
            except (OSError, http.client.HTTPException) as err:
                if failures >= 10:
                    raise ServerRefused(0, f"the connection to {self.base} broke: {err}") from err
            except ServerRefused as err:
                # Unreachable or not ready: it may be restarting.
                if err.status not in (0, 503) or failures >= 10:
                    raise
            failures += 1
            time.sleep(min(0.2 * failures, 2.0))

    def _open(
        self, method: str, path: str, *, body: Any, raw: bytes | None, headers: Mapping[str, str], query: Mapping[str, Any]
    ) -> http.client.HTTPResponse:
        text = urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}{path}" + (f"?{text}" if text else ""), data=data, method=method)  # noqa: S310
        for name, value in {"Content-Type": "application/json", **self._headers, **headers}.items():
            request.add_header(name, value)
        try:
            response: http.client.HTTPResponse = self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as err:
            raise ServerRefused(err.code, _problem(err)) from err
        except urllib.error.URLError as err:
            hint = "is `optio dev` running there? (--url or OPTIO_URL names another server)"
            raise ServerRefused(0, f"no server answers at {self.base}: {err.reason}: {hint}") from err
        except (OSError, http.client.HTTPException) as err:
            raise self._broke(err) from err
        return response

    def _broke(self, err: Exception) -> ServerRefused:
        return ServerRefused(0, f"the connection to {self.base} broke: {err}: try again")


def quoted(part: str) -> str:
    """Quote one segment of a URL path."""
    return urllib.parse.quote(part, safe="")


def _problem(err: urllib.error.HTTPError) -> str:
    if 300 <= err.code < 400:
        return (
            f"the server answered {err.code} and names {err.headers.get('Location', 'no address')}: if you trust it, give --url"
        )
    try:
        document = json.loads(err.read())
        lines = [str(document.get("detail") or document["title"])]
        for error in document.get("errors", []):
            hint = f" ({error['hint']})" if error.get("hint") else ""
            lines.append(f"  {error.get('pointer', '')}: {error.get('message', '')}{hint}")
    except (ValueError, AttributeError, KeyError):
        return f"the server answered {err.code} {err.reason}"
    return "\n".join(lines)


def _sse(response: http.client.HTTPResponse) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for raw in response:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            event[name] = f"{event[name]}\n{value}" if name == "data" and name in event else value
