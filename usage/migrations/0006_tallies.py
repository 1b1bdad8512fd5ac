"""Tallies, filled from what is there: two minutes of CPU for a million records."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import migrations, models

from usage import parts, sum_rows, tallies


DAY = timedelta(days=1)


def fill(apps: Any, schema_editor: Any) -> None:
    """Day by day, so that the sums of each day are whole."""
    records, rollups = apps.get_model("usage", "UsageRecord"), apps.get_model("usage", "Rollup")
    tally = apps.get_model("usage", "Tally")
    first, last = _ends(records, rollups)
    kept_from = records.objects.order_by("started_at").values_list("started_at", flat=True).first()
    day = first
    while day is not None and day <= last:
        rows = tallies.rows_of(_parts(records, rollups, day, kept_from))
        tally.objects.bulk_create(sum_rows.models_of(tally, tallies.PLACE, rows), batch_size=500)
        day += DAY


def _ends(records: Any, rollups: Any) -> tuple[datetime | None, datetime]:
    times = [
        at
        for rows, name in ((records, "started_at"), (rollups, "hour"))
        for order in (name, f"-{name}")
        if (at := rows.objects.order_by(order).values_list(name, flat=True).first())
    ]
    if not times:
        return None, datetime.max.replace(tzinfo=UTC)
    return parts.hour_of(min(times)).replace(hour=0), max(times)


def _parts(
    records: Any, rollups: Any, day: datetime, kept_from: datetime | None
) -> Iterator[parts.Part]:
    """Of the records; before the oldest one of the rollups, which know no names."""
    until = day + DAY
    since = until if kept_from is None else max(day, parts.hour_of(kept_from))
    for row in rollups.objects.filter(hour__gte=day, hour__lt=min(since, until)).iterator():
        like = parts.Likeness(
            row.hour,
            member_id=row.member_id,
            key_id=row.key_id,
            account_id=row.account_id,
            team_id=row.team_id,
            model=row.model,
            client=row.client,
            outcome=row.outcome,
        )
        sums = tuple(getattr(row, name) for name in parts.SUMS)
        yield parts.Part(like, sums, row.first_token_histogram)
    found = records.objects.filter(started_at__gte=since, started_at__lt=until)
    yield from parts.parts_of(found.values_list(*parts.COLUMNS, named=True).iterator())


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0005_fewer_indexes"),
    ]

    operations = [
        migrations.CreateModel(
            name="Tally",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("requests", models.PositiveIntegerField(default=0)),
                ("input_tokens", models.BigIntegerField(default=0)),
                ("output_tokens", models.BigIntegerField(default=0)),
                ("cache_read_tokens", models.BigIntegerField(default=0)),
                ("cache_write_tokens", models.BigIntegerField(default=0)),
                ("reasoning_tokens", models.BigIntegerField(default=0)),
                ("nano_aiu", models.BigIntegerField(default=0)),
                ("estimated_nano_aiu", models.BigIntegerField(default=0)),
                ("total_ms", models.BigIntegerField(default=0)),
                ("first_token_histogram", models.JSONField(default=dict)),
                (
                    "span",
                    models.CharField(choices=[("hour", "Hour"), ("day", "Day")], max_length=4),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("all", "All"),
                            ("model", "Model"),
                            ("asked", "Asked"),
                            ("client", "Client"),
                            ("source", "Source"),
                            ("member", "Member"),
                            ("key", "Key"),
                            ("account", "Account"),
                            ("team", "Team"),
                            ("cost_centre", "Cost Centre"),
                            ("retried", "Retried"),
                        ],
                        max_length=12,
                    ),
                ),
                ("begin", models.DateTimeField()),
                ("number", models.BigIntegerField(default=0)),
                ("name", models.CharField(blank=True, default="", max_length=150)),
                ("owner", models.CharField(blank=True, default="", max_length=150)),
                ("outcome", models.CharField(max_length=16)),
            ],
            options={
                "verbose_name_plural": "tallies",
            },
        ),
        migrations.AddIndex(
            model_name="rollup",
            index=models.Index(fields=["key_id", "hour"], name="rollups_by_key"),
        ),
        migrations.AddIndex(
            model_name="rollup",
            index=models.Index(fields=["member_id", "hour"], name="rollups_by_member"),
        ),
        migrations.AddConstraint(
            model_name="tally",
            constraint=models.UniqueConstraint(
                fields=("span", "kind", "begin", "number", "name", "owner", "outcome"),
                name="one_tally_of_a_thing",
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
