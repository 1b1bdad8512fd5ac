"""URLs of the API paths. They are served by `copilot_site.handler`, without middleware."""

from django.urls import path

from proxy.api import api
from proxy.api.management import PREFIX
from proxy.api.management import api as management

urlpatterns = [path(PREFIX, management.urls), path("", api.urls)]
