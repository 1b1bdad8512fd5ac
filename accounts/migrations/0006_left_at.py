"""When a member was found in no group of the identity provider any more."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_team")]

    operations = [
        migrations.AddField(
            model_name="member",
            name="left_at",
            field=models.DateTimeField(blank=True, null=True),
        )
    ]
