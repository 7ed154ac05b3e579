"""A deadline for each request's use of the store, from the end of its body to the begin of its answer, so that a slow database
cannot pile up requests."""

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from optio.store.deadline import CURRENT, Deadline


class RequestDeadline:
    """ASGI middleware that sets the deadline. WebSockets have none, because they last."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if str(scope["type"]) != "http":
            await self._app(scope, receive, send)
            return
        deadline = Deadline()
        answered = False

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not answered:
                deadline.restart()
            return message  # type: ignore[return-value]

        async def sending(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                deadline.lift()
            await send(message)

        # Each request is a task of its own, whose context ends with it.
        CURRENT.set(deadline)
        await self._app(scope, receiving, sending)  # type: ignore[arg-type]
