"""Approvals say when their holder was last there; what settles and what was decided is indexed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("proxy", "0003_conversation_seats")]

    operations = [
        migrations.AddField("approval", "seen_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddIndex(
            "approval", models.Index(fields=["settles_until"], name="approvals_settling")
        ),
        migrations.AddIndex(
            "approval", models.Index(fields=["-decided_at"], name="approvals_decided")
        ),
    ]
