from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_device_login_polling")]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="allows_web_search",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
