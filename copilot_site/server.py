"""Uvicorn as the gateway runs it: one process, drained before it stops, honest about the port."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

import uvicorn
from django.conf import settings

from copilot_site.protocol import GatewayProtocol
from copilot_site.terminal import say
from proxy.exchange import LIVE

BACKLOG = 2048
# Longer than nginx keeps its own idle connections (60 s), so that it never reuses a closed one.
KEEP_ALIVE_S = 75
# How long requests have to end after a second Ctrl-C.
HURRIED_S = 2


class PortTaken(Exception):
    """Something else listens there. `port` is the one that was asked for."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is in use by another program.")
        self.port = port


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `PortTaken`, or `OSError` for other reasons."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortTaken(host, port) from error
        raise
    listener.setblocking(False)
    return listener


class GatewayServer(uvicorn.Server):
    """Stops by taking nothing new, letting streams end, and ending the rest with an error event."""

    def __init__(self, listener: socket.socket, ready: Callable[[], Awaitable[None]]) -> None:
        super().__init__(
            uvicorn.Config(
                "copilot_site.asgi:application",
                loop="auto",
                http=GatewayProtocol,
                ws="websockets-sansio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=10,
                backlog=BACKLOG,
                proxy_headers=False,
            )
        )
        self._listener = listener
        self._ready = ready
        self._tasks: set[asyncio.Future[None]] = set()
        self.was_hurried = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        from copilot_site.asgi import gateway

        GatewayProtocol.handler = gateway
        GatewayProtocol.max_body_bytes = settings.GATEWAY_MAX_BODY_BYTES
        GatewayProtocol.upload_timeout_s = settings.GATEWAY_UPLOAD_TIMEOUT_S
        GatewayProtocol.client_stall_s = settings.GATEWAY_CLIENT_STALL_S
        await super().startup(sockets)
        if not self.should_exit:
            task = asyncio.ensure_future(self._ready())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        if LIVE:
            count = len(LIVE)
            word = "request" if count == 1 else "requests"
            say(f"\nFinishing {count} {word} … (again to stop now)")
            # Not at the top: making the application reads the list of static files, which `start`
            # collects after it has opened the port.
            from copilot_site.asgi import lifespan

            drain = asyncio.ensure_future(lifespan.drain(settings.GATEWAY_DRAIN_S))
            while not drain.done() and not self.force_exit:
                await asyncio.wait({drain}, timeout=0.1)
            if self.force_exit:
                drain.cancel()
                await lifespan.drain(0)
                # What was ended has a moment to say so; a third Ctrl-C does not wait for that either.
                self.was_hurried, self.force_exit = True, False
                self.config.timeout_graceful_shutdown = HURRIED_S
        await super().shutdown(sockets)
        if self.force_exit:
            self.was_hurried = True
            await self.lifespan.shutdown()
        # Uvicorn would raise the signals again, inside the loop: `serve` tells how it ended.
        self._captured_signals.clear()

    async def run(self) -> None:  # type: ignore[override]
        await self.serve(sockets=[self._listener])


def serve(listener: socket.socket, ready: Callable[[], Awaitable[None]]) -> None:
    """Serve until SIGINT or SIGTERM. Raises `KeyboardInterrupt` when it was asked twice."""
    server = GatewayServer(listener, ready)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(server.run())
    if server.was_hurried:
        raise KeyboardInterrupt


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
