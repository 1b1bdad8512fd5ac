"""Pages, admin and API documentation. API paths never come here: see `copilot_site.asgi`."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from proxy.api import api
from proxy.api.management import PREFIX as MANAGEMENT
from proxy.api.management import api as management

admin.autodiscover()
urlpatterns = [
    # Browsers only: clients at the root are answered by the gateway itself.
    path("", RedirectView.as_view(url="/dashboard/")),
    # People sign in at one place.
    path("admin/login/", RedirectView.as_view(pattern_name="sign-in", query_string=True)),
    path("admin/", admin.site.urls),
    path("dashboard/", include("accounts.urls")),
    path("dashboard/", include("usage.urls")),
    path("dashboard/", include("proxy.page_urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    # For /api/docs and /api/openapi.json; its operations are dispatched before they come here.
    path(MANAGEMENT, management.urls),
    path("", api.urls),
]
