"""One-use sign-in links."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from django.db import connection, connections
from django.utils.timezone import now

from accounts import links
from accounts.models import Member, SignInLink


def test_a_link_signs_in_once(ben: Member) -> None:
    token = links.make(ben)

    assert links.redeem(token).member == ben  # type: ignore[union-attr]
    assert links.redeem(token) is None


def test_of_many_who_come_at_once_one_wins(ben: Member) -> None:
    token = links.make(ben)

    def redeem(_: int) -> SignInLink | None:
        try:
            return links.redeem(token)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        won = [link for link in pool.map(redeem, range(16)) if link]

    assert [link.member for link in won] == [ben]


def test_a_link_ends_after_its_minutes(ben: Member) -> None:
    token = links.make(ben, minutes=10)
    SignInLink.objects.update(expires_at=now() - timedelta(seconds=1))

    assert links.redeem(token) is None


def test_a_link_of_an_inactive_member_is_void(ben: Member) -> None:
    token = links.make(ben)
    Member.objects.filter(pk=ben.pk).update(is_active=False)

    assert links.redeem(token) is None


def test_unknown_and_hostile_links_are_void(ben: Member) -> None:
    links.make(ben)

    for token in ("", "x", "x" * 100_000, "\x00", "\udcff"):
        assert links.redeem(token) is None


def test_the_database_holds_no_link(ben: Member) -> None:
    token = links.make(ben)

    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_signinlink")
        assert token not in repr(cursor.fetchall())
