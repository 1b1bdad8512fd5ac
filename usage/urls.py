"""Pages of usage: overview, requests, live, accounts with their quota, API keys with their use."""

from django.urls import path

from usage import (
    account_views,
    body_views,
    notice_views,
    people_views,
    report_views,
    seat_views,
    views,
)

urlpatterns = [
    path("", views.overview, name="overview"),
    path("search/", views.search, name="search"),
    path("requests/", views.requests, name="requests"),
    path("requests/export.csv", views.export, {"kind": "csv"}, name="export-csv"),
    path("requests/export.json", views.export, {"kind": "json"}, name="export-json"),
    path("requests/exports/<uuid:export_id>.<str:kind>", views.large_export, name="large-export"),
    path("requests/<str:exchange_id>/", views.exchange, name="exchange"),
    path("requests/<str:exchange_id>/bodies/", body_views.read, name="bodies"),
    path("requests/<str:exchange_id>/bodies/delete/", body_views.delete, name="bodies-delete"),
    path("privacy/", body_views.privacy, name="privacy"),
    path("privacy/delete/", body_views.delete_own, name="bodies-delete-own"),
    path("conversations/<str:conversation_id>/", views.conversation, name="conversation"),
    path("live/", views.live, name="live"),
    path("live/in-flight.json", views.live_rows, name="in-flight"),
    path("accounts/", account_views.accounts, name="accounts"),
    path("accounts/<str:slug>/", account_views.account, name="account"),
    path("accounts/<str:slug>/<str:action>/", account_views.act, name="account-act"),
    path("pools/", seat_views.pool_list, name="pools"),
    path("pools/<int:pool_id>/", seat_views.pool, name="pool"),
    path("apps/", seat_views.app_list, name="apps"),
    path("apps/<int:app_id>/", seat_views.app, name="app"),
    path("apps/<int:app_id>/remove/", seat_views.remove_app, name="app-remove"),
    path("keys/", views.keys, name="keys"),
    path("members/", people_views.members, name="members"),
    path("members/<str:name>/", people_views.member, name="member"),
    path("members/<str:name>/raise/", people_views.raise_member, name="member-raise"),
    path("members/<str:name>/<str:action>/", people_views.act_on_member, name="member-act"),
    path("raises/<int:raise_id>/end/", people_views.end_raise, name="raise-end"),
    path("teams/", people_views.teams, name="teams"),
    path("teams/<int:team_id>/", people_views.team, name="team"),
    path("teams/<int:team_id>/raise/", people_views.raise_team, name="team-raise"),
    path("teams/<int:team_id>/delete/", people_views.delete_team, name="team-delete"),
    path("notifications/", notice_views.notifications, name="notifications"),
    path("notifications/channels/new/", notice_views.channel_new, name="channel-new"),
    path("notifications/channels/<int:channel_id>/", notice_views.channel, name="channel"),
    path(
        "notifications/channels/<int:channel_id>/<str:action>/",
        notice_views.channel_act,
        name="channel-act",
    ),
    path(
        "notifications/deliveries/<int:delivery_id>/again/",
        notice_views.delivery_again,
        name="delivery-again",
    ),
    path("reports/", report_views.report, name="reports"),
    path("reports/reconciliation/", report_views.reconciliations, name="reconciliation"),
    path("reports/months/", report_views.months, name="months"),
    path("reports/months/close/", report_views.close_month, name="month-close"),
    path("reports/months/<str:month>.csv", report_views.month_file, {"kind": "csv"}, "month-csv"),
    path(
        "reports/months/<str:month>.json", report_views.month_file, {"kind": "json"}, "month-json"
    ),
    path("reports/months/<str:month>/", report_views.month, name="month"),
    path("reports/months/<str:month>/sign-off/", report_views.sign_off, name="month-sign-off"),
    path(
        "reports/<str:grouping>.csv", report_views.report_file, {"kind": "csv"}, name="report-csv"
    ),
    path(
        "reports/<str:grouping>.json",
        report_views.report_file,
        {"kind": "json"},
        name="report-json",
    ),
    path("reports/<str:grouping>/", report_views.report, name="report"),
]
