"""Links of administrators stand for the password only."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_members")]

    operations = [
        migrations.AddField(
            model_name="signinlink",
            name="asks_factor",
            field=models.BooleanField(db_default=False, default=False),
        )
    ]
