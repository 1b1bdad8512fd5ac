"""Sums of usage records: by hour and combination, and by hour or day and one thing alone."""

from django.db import models


class Sums(models.Model):
    """What is summed, the same for every kind of sum."""

    requests = models.PositiveIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    nano_aiu = models.BigIntegerField(default=0)
    estimated_nano_aiu = models.BigIntegerField(default=0)
    total_ms = models.BigIntegerField(default=0)
    # Counts of first-token times in sqrt(2)-spaced buckets, for percentiles over any range.
    first_token_histogram = models.JSONField(default=dict)

    class Meta:
        abstract = True


class Rollup(Sums):
    """Sums of one UTC hour for one combination; charts read these, never raw records."""

    hour = models.DateTimeField()
    member_id = models.BigIntegerField(default=0)
    key_id = models.BigIntegerField(default=0)
    account_id = models.BigIntegerField(default=0)
    team_id = models.BigIntegerField(default=0, db_default=0)
    model = models.CharField(max_length=100, blank=True)
    client = models.CharField(max_length=100, blank=True)
    outcome = models.CharField(max_length=16)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "hour",
                    "member_id",
                    "key_id",
                    "account_id",
                    "team_id",
                    "model",
                    "client",
                    "outcome",
                ],
                name="one_rollup_per_combination",
            )
        ]
        indexes = [
            models.Index(fields=["key_id", "hour"], name="rollups_by_key"),
            models.Index(fields=["member_id", "hour"], name="rollups_by_member"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00 {self.model} {self.outcome}"


class Tally(Sums):
    """Sums of one UTC hour or UTC day for one thing alone, and its name at that time.

    As many rows as there are things, where rollups are as many as combinations: what pages and
    budgets read of long times. Keys have days only; only hours have histograms, of some kinds.
    """

    class Span(models.TextChoices):
        HOUR = "hour"
        DAY = "day"

    class Kind(models.TextChoices):
        ALL = "all"
        MODEL = "model"
        # The model that was asked for, where another one served.
        ASKED = "asked"
        CLIENT = "client"
        SOURCE = "source"
        MEMBER = "member"
        KEY = "key"
        ACCOUNT = "account"
        TEAM = "team"
        COST_CENTRE = "cost_centre"
        # Completed, and not at the first attempt.
        RETRIED = "retried"

    span = models.CharField(max_length=4, choices=Span.choices)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    begin = models.DateTimeField()
    number = models.BigIntegerField(default=0)
    name = models.CharField(max_length=150, blank=True, default="")
    # Of a key, the name of its member.
    owner = models.CharField(max_length=150, blank=True, default="")
    outcome = models.CharField(max_length=16)

    class Meta:
        verbose_name_plural = "tallies"
        constraints = [
            models.UniqueConstraint(
                fields=["span", "kind", "begin", "number", "name", "owner", "outcome"],
                name="one_tally_of_a_thing",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name or self.number} from {self.begin:%Y-%m-%d %H}:00"
