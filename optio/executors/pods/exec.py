"""Commands inside a pod, by the API's subprotocol v5.channel.k8s.io: the first byte of a message is its channel."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

import httpx2
from httpx2.websockets import WebSocketUpgradeError

# The first version that can say that the input has ended.
_V5 = "v5.channel.k8s.io"
_INPUT, _OUTPUT, _STATUS = 0, 1, 3
_INPUT_ENDS = bytes((255, _INPUT))
_MAX_MESSAGE_BYTES = 16 << 20
_GREETS_S = 10.0
Later = Callable[[], Awaitable[bytes]]
Hear = Callable[[bytes], None]


class NotStarted(Exception):
    """Raised when the command was not begun. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def run(
    http: httpx2.AsyncClient, path: str, container: str, command: Sequence[str], data: bytes | Later, hear: Hear | None = None
) -> tuple[int, bytes]:
    """Run a command that reads `data`, and return (exit code, output). If `data` is a function, it is awaited when the command
    has printed something, and may take any time; if it raises, or this is cancelled, the command's input ends. `hear` gets the
    output as it comes; the returned output is the first of it. Raises NotStarted, TimeoutError, and what httpx2 and `data`
    raise."""
    params = {"container": container, "stdin": "true", "stdout": "true", "command": list(command)}
    output, code = bytearray(), None
    try:
        async with http.websocket(path, params=params, subprotocols=[_V5], max_message_size_bytes=_MAX_MESSAGE_BYTES) as socket:
            if socket.subprotocol != _V5:
                raise NotStarted(400, "the cluster is older than Kubernetes 1.30: it cannot be told that an input has ended")

            async def heard() -> int | None:
                message = await socket.receive_bytes()
                if message[0] == _OUTPUT:
                    if hear is None or not output:
                        output.extend(message[1:])
                    if hear is not None:
                        hear(message[1:])
                return _code(message[1:]) if message[0] == _STATUS else None

            input_data = data if isinstance(data, bytes) else b""
            if not isinstance(data, bytes):
                async with asyncio.timeout(_GREETS_S):
                    while code is None and not output:
                        code = await heard()
                if code is None:
                    code, input_data = await _before_the_end(data(), heard())
            if code is None:
                await socket.send_bytes(bytes((_INPUT,)) + input_data)
                await socket.send_bytes(_INPUT_ENDS)
            while code is None:
                code = await heard()
            return code, bytes(output)
    except WebSocketUpgradeError as err:
        # Its body is gone.
        raise NotStarted(err.response.status_code, f"HTTP status {err.response.status_code}") from err
    except BaseExceptionGroup as group:
        raise _only(group) from group


async def _before_the_end(data: Awaitable[bytes], word: Awaitable[int | None]) -> tuple[int | None, bytes]:
    """Return (None, data), or (exit code, empty) if the command has ended before the data was there. Raises what either
    raises."""
    input_ready, end_heard = asyncio.ensure_future(data), asyncio.ensure_future(word)
    try:
        await asyncio.wait({input_ready, end_heard}, return_when=asyncio.FIRST_COMPLETED)
        code = end_heard.result() if end_heard.done() else None
        return (None, await input_ready) if code is None else (code, b"")
    finally:
        for future in (input_ready, end_heard):
            future.cancel()
        await asyncio.gather(input_ready, end_heard, return_exceptions=True)


def _only(group: BaseExceptionGroup) -> BaseException:
    first = group.exceptions[0]
    return _only(first) if isinstance(first, BaseExceptionGroup) else first


def _code(status: bytes) -> int:
    """Return the exit code in a `meta/v1` Status, which may lack every field: a busy API server sent one without `status`."""
    details = json.loads(status)
    if details.get("status") == "Success":
        return 0
    for cause in (details.get("details") or {}).get("causes") or ():
        if details.get("reason") == "NonZeroExitCode" and cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise NotStarted(details.get("code", 500), details.get("message", "no reason was given"))
