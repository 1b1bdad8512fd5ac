"""Pages of accounts: sign-in and out, one's own preferences, connecting a GitHub account."""

from allauth.account import views as allauth_views
from allauth.socialaccount import views as provider_views
from django.urls import include, path
from django.views.generic import RedirectView

from accounts import oidc, own_views, people_views, sign_in_ways, views

# What allauth's flows need, under our addresses; its sign-up and e-mail pages are not there.
sign_in_urls = [
    path(
        "sign-in/",
        RedirectView.as_view(pattern_name="sign-in", query_string=True),
        name="account_login",
    ),
    path("sign-out/", views.sign_out, name="account_logout"),
    path("inactive/", allauth_views.account_inactive, name="account_inactive"),
    path("confirm/", allauth_views.reauthenticate, name="account_reauthenticate"),
    path("cancelled/", provider_views.login_cancelled, name="socialaccount_login_cancelled"),
    path("failed/", provider_views.login_error, name="socialaccount_login_error"),
    path("connections/", provider_views.connections, name="socialaccount_connections"),
    path("github/login/", sign_in_ways.to_github, name="github_login"),
    path("", include("allauth.socialaccount.providers.github.urls")),
    path("<str:provider_id>/login/", sign_in_ways.to_oidc, name="openid_connect_login"),
    path("<str:provider_id>/login/callback/", oidc.callback, name="openid_connect_callback"),
]

urlpatterns = [
    path("sign-in/", views.sign_in, name="sign-in"),
    path("sign-out/", views.sign_out, name="sign-out"),
    path("me/", views.me, name="me"),
    path("me/password/", views.password, name="password"),
    path("me/theme/", views.theme, name="theme"),
    path("me/language/", own_views.language, name="language"),
    path("me/sessions/end/", own_views.end_session, name="session-end"),
    path("me/second-factor/", include("allauth.mfa.urls")),
    path("sso/", include(sign_in_urls)),
    path("join/<str:token>/", own_views.join, name="join"),
    path("notice/", own_views.notice, name="notice"),
    path("notice/edit/", people_views.edit_notice, name="notice-edit"),
    path("invites/new/", people_views.new_invite, name="invite-new"),
    path("invites/<int:invite_id>/revoke/", people_views.revoke_invite, name="invite-revoke"),
    path("groups/", people_views.groups, name="groups"),
    path("groups/<int:mapping_id>/remove/", people_views.remove_group, name="group-remove"),
    path("accounts/connect/", views.connect, name="connect"),
    path("accounts/connect/<uuid:login_id>/", views.connect_login, name="connect-login"),
    path("accounts/connect/<uuid:login_id>/cancel/", views.connect_cancel, name="connect-cancel"),
]
