"""The site app: commands, checks and template tags of the whole."""

from django.apps import AppConfig


class CopilotSiteConfig(AppConfig):
    name = "copilot_site"
    verbose_name = "Copilot Gateway"
