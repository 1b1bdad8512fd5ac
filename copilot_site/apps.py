"""The site app: commands, checks and template tags of the whole."""

from django.apps import AppConfig


class CopilotSiteConfig(AppConfig):
    name = "copilot_site"
    verbose_name = "Copilot Gateway"

    def ready(self) -> None:
        from copilot_site import checks as _checks  # noqa: F401 - registers them
        from copilot_site import heartbeats

        heartbeats.connect()
