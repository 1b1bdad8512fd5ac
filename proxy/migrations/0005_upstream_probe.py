"""What the drift canary hears at each host."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("proxy", "0004_approval_queue")]

    operations = [
        migrations.CreateModel(
            name="UpstreamProbe",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("host", models.CharField(max_length=255)),
                ("kind", models.CharField(max_length=16)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("ok", "Accepted"),
                            ("outdated", "Told to update"),
                            ("refused", "Refused"),
                            ("unclear", "No answer to judge by"),
                        ],
                        max_length=16,
                    ),
                ),
                ("status", models.PositiveSmallIntegerField(default=0)),
                ("header", models.CharField(blank=True, max_length=64)),
                ("sent", models.CharField(blank=True, max_length=200)),
                ("message", models.CharField(blank=True, max_length=300)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("since", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "ordering": ["host", "kind"],
                "constraints": [
                    models.UniqueConstraint(fields=("host", "kind"), name="probed_once")
                ],
            },
        ),
    ]
