"""Pages of accounts: sign-in and out, one's own preferences, connecting a GitHub account."""

from django.urls import path

from accounts import views

urlpatterns = [
    path("sign-in/", views.sign_in, name="sign-in"),
    path("sign-out/", views.sign_out, name="sign-out"),
    path("me/", views.me, name="me"),
    path("me/password/", views.password, name="password"),
    path("me/theme/", views.theme, name="theme"),
    path("accounts/connect/", views.connect, name="connect"),
    path("accounts/connect/<uuid:login_id>/", views.connect_login, name="connect-login"),
    path("accounts/connect/<uuid:login_id>/cancel/", views.connect_cancel, name="connect-cancel"),
]
