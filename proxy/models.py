"""What the gateway knows of models: aliases, and the catalog of each account."""

from django.db import models

from accounts.models import TouchedQuerySet


class ModelAlias(models.Model):
    """A name that clients use for one of Copilot's ids. `pattern` may end in `*`."""

    pattern = models.CharField(max_length=100, unique=True)
    model = models.CharField(max_length=100)
    note = models.CharField(max_length=200, blank=True)
    is_enabled = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["pattern"]
        verbose_name_plural = "model aliases"

    def __str__(self) -> str:
        return f"{self.pattern} → {self.model}"


class Catalog(models.Model):
    """The model list of one account as Copilot last gave it; kept when a refresh fails.

    Source: docs/upstream.md#models.
    """

    account = models.OneToOneField(
        "accounts.Account", on_delete=models.CASCADE, related_name="catalog"
    )
    entries = models.JSONField(default=list)
    fetched_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.account} ({len(self.entries)} models)"
