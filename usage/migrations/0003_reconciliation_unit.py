"""Old contracts count premium requests, not credits."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usage", "0002_team")]

    operations = [
        migrations.AddField(
            model_name="reconciliation",
            name="unit",
            field=models.CharField(
                choices=[("credits", "AI credits"), ("requests", "Premium requests")],
                db_default="credits",
                default="credits",
                max_length=16,
            ),
        ),
    ]
