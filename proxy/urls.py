"""URLs of the API paths. They are served by `copilot_site.handler`, without middleware."""

from django.urls import path

from proxy.api import api

urlpatterns = [path("", api.urls)]
