"""Conversations remember the account that they had also after it was removed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("proxy", "0002_team")]

    operations = [
        migrations.RemoveField(model_name="conversationseat", name="account"),
        migrations.AddField(
            model_name="conversationseat",
            name="account_id",
            field=models.BigIntegerField(default=0),
            preserve_default=False,
        ),
    ]
