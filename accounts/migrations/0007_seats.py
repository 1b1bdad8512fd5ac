"""Seats: models that an account cannot serve for a while, and what pools and Apps demand."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_left_at")]

    operations = [
        migrations.AddField(
            model_name="account",
            name="model_limits",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.CheckConstraint(
                condition=models.Q(pool=None) | models.Q(owner=None),
                name="pooled_seat_has_no_owner",
            ),
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.CheckConstraint(
                condition=~models.Q(credential_kind="installation")
                | models.Q(app__isnull=False, installation_id__isnull=False),
                name="installation_has_its_app",
            ),
        ),
    ]
