"""Members are called so in lists, too. No column changes."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0008_pools_are_protected")]

    operations = [
        migrations.AlterModelOptions(
            name="member", options={"verbose_name": "member", "verbose_name_plural": "members"}
        ),
    ]
