"""The proxy app."""

from django.apps import AppConfig


class ProxyConfig(AppConfig):
    name = "proxy"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # They register with tasks of usage: what waits for a person, which rows go when.
        from proxy import old_rows, waiting  # noqa: F401
