"""The simulator itself: one port that plays github.com, api.github.com and the Copilot API."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import orjson

from simulator import (
    catalogue,
    contents,
    control,
    device_flow,
    embeddings,
    identity,
    installations,
    messages,
    streams,
    transport,
)
from simulator.chat import CHAT_LEG
from simulator.chat_rules import chat_user_text
from simulator.front_door import admit, identify
from simulator.generation import Leg, answer
from simulator.messages import MESSAGES_LEG
from simulator.messages_rules import messages_user_text
from simulator.refusals import CATALOGUE, Refusal
from simulator.responses import RESPONSES_LEG
from simulator.responses_rules import responses_user_text
from simulator.scenarios import choose
from simulator.script import Call
from simulator.server import ClientGone, Request, Responder, Server
from simulator.state import Json, State
from simulator.statuses import send_refusal

# Imported for the scenarios they register.
SCENARIO_MODULES = (contents, streams, transport)

Handler = Callable[[Call], Awaitable[None]]

# Hosts that mean every address; they are listened on, but nobody can be sent there.
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104


def _leg(leg: Leg) -> Handler:
    async def handle(call: Call) -> None:
        await answer(call, leg)

    return handle


GITHUB: dict[tuple[str, str], Handler] = {
    ("POST", "/login/device/code"): device_flow.start,
    ("POST", "/login/oauth/access_token"): device_flow.poll,
    ("GET", "/login/device"): device_flow.page,
    ("POST", "/login/device"): device_flow.page,
    ("GET", "/user"): identity.user,
    ("GET", "/copilot_internal/v2/token"): identity.exchange,
    ("GET", "/copilot_internal/user"): identity.copilot_user,
}
COPILOT: dict[tuple[str, str], Handler] = {
    ("POST", "/chat/completions"): _leg(CHAT_LEG),
    ("POST", "/responses"): _leg(RESPONSES_LEG),
    ("POST", "/v1/messages"): _leg(MESSAGES_LEG),
    ("POST", "/v1/messages/count_tokens"): messages.count,
    ("POST", "/embeddings"): embeddings.embed,
    ("GET", "/models"): catalogue.models,
    ("POST", "/models/session"): catalogue.session,
    ("POST", "/auto"): catalogue.auto,
}
_USER_TEXTS: dict[str, Callable[[Json], str]] = {
    "/chat/completions": chat_user_text,
    "/responses": responses_user_text,
    "/v1/messages": messages_user_text,
}


class Simulator:
    """GitHub and Copilot on a loopback port, inside the running event loop."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int | None = None,
        public_url: str | None = None,
    ) -> None:
        self.state = State(seed)
        self.state.public_url = public_url
        self._host = host
        self._wanted_port = port
        self.server = Server(self._handle, lambda: self.state.config)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self._host in ANY_ADDRESS else self._host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen; on 127.0.0.1 also on 127.0.0.2, so that two Copilot hosts can be played."""
        hosts = ("127.0.0.1", "127.0.0.2") if self._host == "127.0.0.1" else (self._host,)
        await self.server.listen(hosts, self._wanted_port)
        self.state.port = self.port

    async def close(self) -> None:
        await self.server.close()

    async def _handle(self, request: Request, out: Responder) -> None:
        state = self.state
        state.journal.max_requests = state.config.journal_requests
        if request.path.startswith("/_sim/"):
            await control.handle(state, request, out)
            return
        call = Call(state, request, out, received=state.journal.begin(request))
        try:
            await self._answer(call)
        except ClientGone:
            pass
        finally:
            how = out.ended or "client_closed"
            state.journal.finish(call.received, how, out.status, out.bytes_sent)

    async def _answer(self, call: Call) -> None:
        if call.request.refuse_with is not None:
            name = "upload_timeout" if call.request.refuse_with == 408 else "too_large_text"
            await send_refusal(call, CATALOGUE[name])
            return
        if call.state.config.latency_ms:
            await asyncio.sleep(call.state.config.latency_ms / 1000)
        if call.request.body:
            try:
                call.body = orjson.loads(call.request.body)
            except orjson.JSONDecodeError:
                call.body = None
        try:
            await self._route(call)
        except Refusal as refusal:
            await send_refusal(call, refusal)

    async def _route(self, call: Call) -> None:
        method, path = call.request.method, call.request.path
        is_head = method == "HEAD"
        key = ("GET" if is_head else method, path)
        handler = GITHUB.get(key)
        if handler is not None:
            _name_github_account(call)
            self._choose(call)
            if call.script.instead is not None:
                await call.script.instead(call)
                return
            await _wait_first(call)
            await handler(call)
            return
        if key[0] == "POST" and (asked := installations.PATH.fullmatch(path)):
            self._choose(call)
            if call.script.instead is not None:
                await call.script.instead(call)
                return
            await installations.access_token(call, int(asked["number"]))
            return
        if path == "/_ping":
            await catalogue.ping(call)
            return
        account, call.is_direct, problem = identify(call.state, call.header("authorization"))
        call.account = account
        call.received.login = account.login if account else None
        admit(call, problem)
        handler = COPILOT.get(key)
        if handler is None and method == "POST" and path.startswith("/models/"):
            handler = catalogue.policy if path.endswith("/policy") else None
        if handler is None:
            raise CATALOGUE["not_found_text"]
        self._choose(call)
        await (call.script.instead or handler)(call)

    def _choose(self, call: Call) -> None:
        body = call.body if isinstance(call.body, dict) else {}
        model = body.get("model")
        call.received.model = model if isinstance(model, str) else None
        entry = call.state.models_by_id.get(call.received.model or "")
        find_text = _USER_TEXTS.get(call.request.path)
        words = find_text(body) if find_text is not None else ""
        call.script = choose(call, words, entry.get("scenario") if entry else None)
        call.received.scenario = " ".join(call.script.names)


async def _wait_first(call: Call) -> None:
    """Identity answers know only one kind of slowness: before the first byte."""
    seconds = call.script.delivery.first_delay_s
    if seconds:
        await asyncio.sleep(3600 if math.isinf(seconds) else seconds)


def _name_github_account(call: Call) -> None:
    value = call.header("authorization").partition(" ")[2].strip()
    token = call.state.github_tokens.get(value)
    call.received.login = token.login if token is not None else None
