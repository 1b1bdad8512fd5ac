"""The doors: one module per vendor, mounted where its clients look for it.

A surface is a module with `router`, `MOUNTS` (where the router stands: `""` is the root), `PREFIXES`
(beginnings of its paths at the root) and `source_of(path)`, the format that a caller of `path` reads,
None for paths that are not its own. Another vendor is one module and one entry in `SURFACES`.
"""

from typing import Protocol

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Router

from proxy.api import anthropic, approvals, estimates, gateway, gemini, openai, probes
from proxy.api.errors import render
from proxy.errors import GatewayError


class Surface(Protocol):
    router: Router

    @property
    def MOUNTS(self) -> tuple[str, ...]: ...  # noqa: N802
    @property
    def PREFIXES(self) -> tuple[str, ...]: ...  # noqa: N802
    def source_of(self, path: str) -> str | None: ...


SURFACES: tuple[Surface, ...] = (anthropic, gemini, openai, approvals, estimates, gateway, probes)


def source_of(path: str) -> str:
    """The format that a caller of `path` reads, also where no view answers."""
    for surface in SURFACES:
        if source := surface.source_of(path):
            return source
    return "chat_completions"


def prefixes() -> tuple[str, ...]:
    """Beginnings of all paths that belong to the API."""
    mounted = {f"{mount}/" for surface in SURFACES for mount in surface.MOUNTS if mount}
    return (*sorted(mounted), *(p for surface in SURFACES for p in surface.PREFIXES))


class GatewayAPI(NinjaAPI):
    """Ninja without the response that it makes for each request in case an operation wants it."""

    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        # No operation here does; it costs 12 us.
        return _UNUSED


_UNUSED = HttpResponse()


def build() -> NinjaAPI:
    """The gateway's API. Operations take the raw body: Ninja's schemas would drop unknown fields."""
    api = GatewayAPI(
        title="Copilot Gateway",
        version=settings.VERSION,
        description="OpenAI, Anthropic and Gemini compatible endpoints on GitHub Copilot seats.",
        urls_namespace="gateway",
        docs_url="/api/docs",
        openapi_url="/api/openapi.json",
    )
    api.add_exception_handler(GatewayError, _render)
    for surface in SURFACES:
        for mount in surface.MOUNTS:
            name = mount.strip("/") or "root"
            api.add_router(mount, surface.router, url_name_prefix=name)
    return api


def _render(request: HttpRequest, error: GatewayError | type[GatewayError]) -> HttpResponse:
    assert isinstance(error, GatewayError)
    return render(error, source_of(request.path))


api = build()
