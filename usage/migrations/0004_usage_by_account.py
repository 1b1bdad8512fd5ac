"""The last exchanges of an account are found by an index, as those of members and keys are."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usage", "0003_reconciliation_unit")]

    operations = [
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(fields=["account_id", "-started_at"], name="usage_by_account"),
        ),
        # The new index begins with the account, so the old one is not needed.
        migrations.AlterField(
            model_name="usagerecord",
            name="account_id",
            field=models.BigIntegerField(blank=True, null=True),
        ),
    ]
