"""The audit log."""

from django.db import models
from django.utils.timezone import now


class AuditEntry(models.Model):
    """Who did what to what, when and from where. Rows are only ever added."""

    at = models.DateTimeField(default=now, db_index=True)
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=64, db_index=True)
    target = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    address = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"
