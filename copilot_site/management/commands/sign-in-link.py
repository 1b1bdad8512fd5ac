# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py sign-in-link [NAME]`: a one-use link for who cannot sign in any more."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from accounts import audit, links
from accounts.members import SOLO_USERNAME, solo_member
from accounts.models import Member
from copilot_site.terminal import DatabaseCommand, Failure, say

LOCAL = "http://localhost:4141"


class Command(DatabaseCommand):
    help = "Print a link that signs a member in once, within ten minutes, past every factor."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", default=SOLO_USERNAME, help="whom (owner)")

    def run(self, **options: Any) -> None:
        name = options["name"]
        member = solo_member() if name == SOLO_USERNAME else None
        member = member or Member.objects.filter(username=name).first()
        if member is None or not member.is_active:
            raise Failure(
                f"{name!r} is no active member.",
                "Their name stands on the Members page; an administrator enables them there.",
            )
        audit.record("terminal", "member.link_made", member)
        say(f"Good once, for ten minutes, as {member.get_username()}:")
        base = settings.GATEWAY_PUBLIC_URL or LOCAL
        self.stdout.write(f"{base}/dashboard/?signin={links.make(member)}")
