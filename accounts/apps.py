"""The accounts app."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # They listen to signals: of sign-ins, of second factors, of members who are deleted.
        from accounts import ownership, second_factor, sessions

        assert ownership
        assert second_factor
        assert sessions
