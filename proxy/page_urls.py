"""Pages of the proxy: approvals, models, one key, set-up, health."""

from django.urls import path

from proxy import views

urlpatterns = [
    path("approvals/", views.approvals, name="approvals"),
    path("approvals/<str:pending_id>/", views.decide, name="decide"),
    path("models/", views.models, name="models"),
    path("keys/new/", views.new_key, name="key-new"),
    path("keys/<str:prefix>/", views.key, name="key"),
    path("keys/<str:prefix>/revoke/", views.revoke_key, name="key-revoke"),
    path("setup/", views.setup, name="setup"),
    path("translate/", views.translate, name="translate"),
    path("setup/seen/", views.seen, name="setup-seen"),
    path("health/", views.health, name="health"),
]
