from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_default_profile")]

    operations = [
        migrations.AddField(
            model_name="devicelogin",
            name="host",
            field=models.CharField(default="github.com", max_length=255),
        ),
        migrations.AddField(
            model_name="devicelogin",
            name="next_poll_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="devicelogin",
            name="claimed_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
