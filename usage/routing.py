"""WebSocket addresses of usage; `copilot_site/asgi.py` adds session and origin check."""

from django.urls import path

from usage.consumers import LiveConsumer

websocket_urlpatterns = [path("ws/live/", LiveConsumer.as_asgi())]
