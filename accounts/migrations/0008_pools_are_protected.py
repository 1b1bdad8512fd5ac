"""A pool that keys, teams or accounts use cannot be deleted from under them."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_seats"),
    ]

    operations = [
        migrations.AlterField(
            model_name="account",
            name="pool",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="accounts",
                to="accounts.pool",
            ),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="pool",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="api_keys",
                to="accounts.pool",
            ),
        ),
        migrations.AlterField(
            model_name="team",
            name="pool",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="teams",
                to="accounts.pool",
            ),
        ),
    ]
