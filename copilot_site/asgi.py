"""The ASGI entry: API paths to the lean handler, everything else to stock Django and Channels."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "copilot_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator

from copilot_site.handler import GatewayHandler
from copilot_site.handshake import answer_handshake
from copilot_site.lifespan import Lifespan
from proxy.api import prefixes
from usage.routing import websocket_urlpatterns

# What begins otherwise is a page.
API_PREFIXES = prefixes()
pages = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter(websocket_urlpatterns))
        ),
    }
)
gateway = GatewayHandler()
lifespan = Lifespan()


def is_api(scope: dict[str, Any]) -> bool:
    path: str = scope["path"]
    if path == "/":
        return not wants_html(scope)
    return path.startswith(API_PREFIXES) or path == "/v1"


def wants_html(scope: dict[str, Any]) -> bool:
    """A browser at the root wants the dashboard; a client wants to know that somebody is there."""
    return any(k == b"accept" and b"text/html" in v for k, v in scope["headers"])


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "http" and is_api(scope):
        await gateway(scope, receive, send)
    elif scope["type"] == "websocket" and scope["path"].startswith(API_PREFIXES):
        await answer_handshake(gateway, scope, receive, send)
    else:
        await pages(scope, receive, send)
