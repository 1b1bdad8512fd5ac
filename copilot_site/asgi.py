"""The ASGI entry: API paths to the lean handler, everything else to stock Django and Channels."""

import os
from typing import Any, cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "copilot_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter

from copilot_site.broker_door import BrokerDoor
from copilot_site.checks import refuse_weak_settings
from copilot_site.door import Application, OwnPagesOnly, PageDoor
from copilot_site.handler import GatewayHandler
from copilot_site.hardening import leave_no_core
from copilot_site.lifespan import Lifespan
from proxy.api import prefixes
from proxy.page_urls import websocket_urlpatterns as approval_sockets
from usage.routing import websocket_urlpatterns

leave_no_core()
refuse_weak_settings()

# What begins otherwise is a page.
API_PREFIXES = prefixes()
# The API's own descriptions are pages too.
DESCRIPTIONS = frozenset(
    f"/api/{under}{page}" for under in ("", "admin/") for page in ("docs", "openapi.json")
)
pages = ProtocolTypeRouter(
    {
        "http": PageDoor(cast(Application, django_application)),
        "websocket": OwnPagesOnly(
            BrokerDoor(AuthMiddlewareStack(URLRouter([*websocket_urlpatterns, *approval_sockets])))
        ),
    }
)
gateway = GatewayHandler()
lifespan = Lifespan()


def is_api(scope: dict[str, Any]) -> bool:
    path: str = scope["path"]
    if path == "/":
        return not wants_html(scope)
    if path in DESCRIPTIONS:
        return False
    return path.startswith(API_PREFIXES) or path == "/v1"


def wants_html(scope: dict[str, Any]) -> bool:
    """A browser at the root wants the dashboard; a client wants to know that somebody is there."""
    return any(k == b"accept" and b"text/html" in v for k, v in scope["headers"])


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "http" and is_api(scope):
        await gateway(scope, receive, send)
    else:
        await pages(scope, receive, send)
