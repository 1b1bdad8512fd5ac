"""How long pages take over a full data folder, as an administrator sees them; see `benchmarks.fill`.

    COPILOT_DATA_DIR=/tmp/full python -m benchmarks.pages

The view's own time in this process, the median of five after the first: no socket, no browser.
"""

import os
import statistics
import time

PAGES = (
    "/dashboard/",
    "/dashboard/?range=7d",
    "/dashboard/?range=30d",
    "/dashboard/requests/",
    "/dashboard/requests/?range=30d",
    "/dashboard/requests/?range=30d&outcome=failed",
    "/dashboard/requests/?range=30d&model=claude-opus-5",
    "/dashboard/requests/?range=30d&client=codex_cli_rs/0.140.0",
    "/dashboard/keys/",
    "/dashboard/accounts/",
)
TURNS = 5


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "copilot_site.settings")
    import django

    django.setup()
    from django.test import Client

    from accounts.models import Member
    from copilot_site.preparation import prepare_static_files

    prepare_static_files()
    admin, _ = Member.objects.get_or_create(
        username="bench-admin", defaults={"is_superuser": True, "is_staff": True}
    )
    client = Client(headers={"host": "localhost"})
    client.force_login(admin)
    for page in PAGES:
        took = []
        for _turn in range(TURNS + 1):
            began = time.perf_counter()
            response = client.get(page)
            took.append((time.perf_counter() - began) * 1000)
        first, median = took[0], statistics.median(took[1:])
        print(f"{median:7.0f} ms  (first {first:.0f})  {response.status_code}  {page}", flush=True)


if __name__ == "__main__":
    main()
