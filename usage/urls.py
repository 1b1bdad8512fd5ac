"""Pages of usage: overview, requests, live, accounts with their quota, API keys with their use."""

from django.urls import path

from usage import account_views, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("search/", views.search, name="search"),
    path("requests/", views.requests, name="requests"),
    path("requests/export.csv", views.export, {"kind": "csv"}, name="export-csv"),
    path("requests/export.json", views.export, {"kind": "json"}, name="export-json"),
    path("requests/<str:exchange_id>/", views.exchange, name="exchange"),
    path("conversations/<str:conversation_id>/", views.conversation, name="conversation"),
    path("live/", views.live, name="live"),
    path("live/in-flight.json", views.live_rows, name="in-flight"),
    path("accounts/", account_views.accounts, name="accounts"),
    path("accounts/<str:slug>/", account_views.account, name="account"),
    path("accounts/<str:slug>/<str:action>/", account_views.act, name="account-act"),
    path("keys/", views.keys, name="keys"),
]
