"""Notices: told once, to who is concerned, over channels that are tried again and never twice."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection, connections
from django.utils.timezone import now

from accounts.encryption import Secret
from accounts.models import Member, Team
from tests.usage.receiver import Receiver, receiving
from usage import channels, deliveries, notices, outgoing
from usage.models import Channel, Delivery, Notification

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada() -> Member:
    return Member.objects.create_superuser("ada", "ada@example.org", "x")


@pytest.fixture
def ben() -> Member:
    return Member.objects.create_user("ben", "ben@example.org", "x")


@pytest.fixture
def cleo() -> Member:
    return Member.objects.create_user("cleo", "cleo@example.org", "x")


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.GATEWAY_WEBHOOK_HOSTS = ["127.0.0.1"]
    with receiving() as running:
        yield running


@pytest.fixture
def has_mail(settings: Any) -> None:
    settings.EMAIL_IS_SET_UP = True
    settings.GATEWAY_PUBLIC_URL = "https://gateway.example.org"


def channel(
    kind: str = "webhook", address: str = "https://example.org/x", **values: Any
) -> Channel:
    return Channel.objects.create(
        name=values.pop("name", kind),
        kind=kind,
        address=Secret.of(address),
        secret=Secret.of("cgwh_secret") if kind == "webhook" else Secret.of(""),
        **values,
    )


def tell(number: int = 1, event: str = "budget", **values: Any) -> Notification:
    made = notices.note(
        event, f"Key 'laptop': {number} % spent", "80 of 100. Wait.", dedupe=f"x:{number}", **values
    )
    assert made is not None
    return made


def test_the_same_thing_is_told_once() -> None:
    channel()
    assert tell() is not None
    assert notices.note("budget", "again", "", dedupe="x:1") is None
    assert Notification.objects.count() == Delivery.objects.count() == 1


def test_two_that_tell_at_once_tell_once() -> None:
    channel()
    barrier = threading.Barrier(4)

    def work(_n: int) -> bool:
        try:
            barrier.wait(10)
            return notices.note("task", "late", "", dedupe="same") is not None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(work, range(4)))

    assert told.count(True) == 1
    assert Delivery.objects.count() == 1


def test_a_channel_hears_only_what_concerns_it(ada: Member, ben: Member, cleo: Member) -> None:
    team = Team.objects.create(name="octo", lead=cleo)
    other = Team.objects.create(name="other")
    channel(name="admins")
    channel(name="ben", member=ben)
    channel(name="cleo leads", member=cleo)
    channel(name="octo", team=team)
    channel(name="other", team=other)
    channel(name="frozen only", events=["account_frozen"])
    channel(name="off", is_enabled=False)

    def heard(notice: Notification) -> set[str]:
        return {d.channel.name for d in notice.deliveries.select_related("channel")}

    assert heard(tell(1, member_id=ben.pk)) == {"admins", "ben"}
    assert heard(tell(2, team_id=team.pk)) == {"admins", "octo", "cleo leads"}
    assert heard(tell(3)) == {"admins"}
    assert heard(tell(4, event="account_frozen")) == {"admins", "frozen only"}


def test_what_a_member_sees_is_what_concerns_them(ada: Member, ben: Member, cleo: Member) -> None:
    team = Team.objects.create(name="octo", lead=ben)
    own, of_team, other = (
        tell(1, member_id=ben.pk),
        tell(2, team_id=team.pk),
        tell(3, member_id=cleo.pk),
    )
    assert set(notices.visible_to(ben)) == {own, of_team}
    assert set(notices.visible_to(cleo)) == {other}
    assert notices.visible_to(ada).count() == 3


def test_what_no_database_stores_is_told_all_the_same() -> None:
    made = notices.note(
        "task", "a\nb\x00", "\ud800", dedupe="d" * 300, detail={"x": float("nan"), "y": "\x00"}
    )
    assert made is not None
    made.refresh_from_db()
    assert made.title == "a b\ufffd"
    assert notices.note("task", "a", "", dedupe="d" * 299 + "e") is not None
    assert notices.note("task", "a", "", dedupe="d" * 300) is None


# Webhooks


def test_a_webhook_is_signed_over_time_and_body(receiver: Receiver) -> None:
    channel(address=receiver.url)
    notice = tell(detail={"url": "/dashboard/keys/", "threshold": 80})

    assert deliveries.deliver() == 1

    headers, body, path = receiver.got[0]
    assert path == "/hook?x=1"
    stamp = headers["x-gateway-timestamp"]
    expected = hmac.new(b"cgwh_secret", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["x-gateway-signature"] == f"v1={expected}"
    assert headers["x-gateway-event"] == "budget"
    document = json.loads(body)
    assert document["delivery"] == headers["x-gateway-delivery"]
    assert document["notices"][0]["title"] == notice.title
    assert document["notices"][0]["detail"]["threshold"] == 80
    assert b"cgwh_secret" not in body


def test_a_failed_delivery_comes_again_later_under_the_same_id(receiver: Receiver) -> None:
    channel(address=receiver.url)
    tell()
    receiver.status = 503

    assert deliveries.deliver() == 0
    row = Delivery.objects.get()
    assert (row.state, row.attempts, row.error) == ("waiting", 1, "It answered 503.")
    assert timedelta(seconds=50) < row.next_try_at - now() <= timedelta(seconds=60)
    assert deliveries.deliver() == 0
    assert len(receiver.got) == 1

    receiver.status = 204
    assert deliveries.deliver(now() + timedelta(minutes=2)) == 1
    first, second = (headers["x-gateway-delivery"] for headers, _b, _p in receiver.got)
    assert first == second


def test_after_six_hours_waits_it_is_given_up_and_can_be_tried_again(receiver: Receiver) -> None:
    channel(address=receiver.url)
    tell()
    receiver.status = 500
    waits = []
    for _ in range(deliveries.MAX_ATTEMPTS):
        deliveries.deliver(Delivery.objects.get().next_try_at)
        waits.append(Delivery.objects.get().next_try_at - now())

    row = Delivery.objects.get()
    assert row.state == "failed"
    assert len(receiver.got) == deliveries.MAX_ATTEMPTS
    assert timedelta(hours=5, minutes=59) < max(waits) <= timedelta(hours=6)
    assert deliveries.deliver(now() + timedelta(days=2)) == 0

    deliveries.try_again(row)
    receiver.status = 200
    assert deliveries.deliver() == 1


def test_two_workers_never_send_one_twice(receiver: Receiver) -> None:
    channel(address=receiver.url)
    for number in range(12):
        tell(number)
    barrier = threading.Barrier(2)

    def work(_n: int) -> int:
        try:
            barrier.wait(10)
            return deliveries.deliver()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        sent = sum(threads.map(work, range(2)))

    ids = [json.loads(body)["notices"][0]["id"] for _h, body, _p in receiver.got]
    assert sorted(ids) == sorted(set(ids))
    assert len(ids) == sent == 12


def test_what_a_killed_worker_held_is_sent_by_another(receiver: Receiver) -> None:
    channel(address=receiver.url)
    tell()
    Delivery.objects.update(claimed_until=now() + deliveries.CLAIM)

    assert deliveries.deliver() == 0
    assert deliveries.deliver(now() + deliveries.CLAIM + timedelta(seconds=1)) == 1


def test_one_dead_channel_keeps_nobody_waiting(receiver: Receiver) -> None:
    channel(name="dead", address="http://127.0.0.1:1/")
    channel(name="alive", address=receiver.url)
    for number in range(3):
        tell(number)

    assert deliveries.deliver() == 3
    assert Delivery.objects.filter(channel__name="dead", attempts=1).count() == 1


def test_a_digest_gathers_an_hour_into_one_message(receiver: Receiver) -> None:
    channel(address=receiver.url, digest="hourly")
    for number in range(3):
        tell(number)
    assert deliveries.deliver() == 0
    assert deliveries.send_digests() == 0

    assert deliveries.send_digests(now() + timedelta(hours=1)) == 3

    headers, body, _path = receiver.got[0]
    assert headers["x-gateway-event"] == "digest"
    assert len(json.loads(body)["notices"]) == 3
    assert len(receiver.got) == 1


def test_a_daily_digest_leaves_in_the_morning() -> None:
    daily = Channel(digest="daily")
    at = now().replace(hour=7, minute=12)
    due = notices.due(daily, at)
    assert due.hour == notices.DIGEST_HOUR_UTC
    assert timedelta(0) < due - at <= timedelta(days=1)


# Where a webhook may go


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://10.0.0.8/x",
        "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data/", "https://[fe80::1]/",
        "https://[fd00::1]/", "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/", "https://0.0.0.0/", "https://2130706433/", "https://0x7f.1/",
        "https://100.64.0.1/", "https://224.0.0.1/", "https://127.0.0.1./",
        "http://example.org/", "ftp://example.org/", "https://user:pw@example.org/",
        "https://example.org\\@127.0.0.1/", "https:///x", "https://ex ample.org/", "file:///etc/passwd",
        "https://example.org:99999/", "", "https://example.org/\r\nx: y",
    ],
)  # fmt: skip
def test_no_webhook_leads_inside(url: str) -> None:
    with pytest.raises(outgoing.Refused):
        outgoing.post(url, b"{}", {})


def test_a_name_that_leads_inside_is_found_out_when_it_is_used(settings: Any) -> None:
    # `localhost` passes the look at its letters; its address does not.
    outgoing.read_address("https://localhost/")
    with pytest.raises(outgoing.Refused, match="GATEWAY_WEBHOOK_HOSTS"):
        outgoing.post("https://localhost/", b"{}", {})


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.status, receiver.headers = 302, {"location": "http://127.0.0.1:1/inside"}
    with pytest.raises(outgoing.Undelivered, match="redirects are not followed"):
        outgoing.post(receiver.url, b"{}", {})
    assert len(receiver.got) == 1


def test_a_host_that_drips_is_left(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "LIMIT_S", 1.0)
    receiver.drips, receiver.body = True, b"x" * 1000
    begun = now()
    with pytest.raises(outgoing.Undelivered, match="No answer"):
        outgoing.post(receiver.url, b"{}", {})
    assert now() - begun < timedelta(seconds=4)


def test_a_long_answer_is_not_read_to_its_end(receiver: Receiver) -> None:
    receiver.body = b"x" * 1_000_000
    assert len(outgoing.post(receiver.url, b"{}", {})) == outgoing.MAX_ANSWER


def test_an_error_names_neither_address_nor_answer(receiver: Receiver) -> None:
    receiver.status, receiver.body = 500, b"inner secret"
    channel(address=receiver.url)
    tell()
    deliveries.deliver()
    error = Delivery.objects.get().error
    assert "127.0.0.1" not in error
    assert "inner secret" not in error


# Chats and mail


def test_a_slack_message_calls_nobody(receiver: Receiver) -> None:
    channel("slack", receiver.url)
    notices.note("unusual", "<!channel> @here", "<https://evil|x> & more", dedupe="s")
    deliveries.deliver()
    text = json.loads(receiver.got[0][1])["text"]
    assert "<!channel>" not in text
    assert "@here" not in text
    assert "&lt;https://evil|x&gt; &amp; more" in text


def test_a_teams_message_is_a_card(receiver: Receiver) -> None:
    channel("teams", receiver.url)
    notices.note("unusual", "[x](https://evil)", "text", dedupe="s")
    deliveries.deliver()
    document = json.loads(receiver.got[0][1])
    card = document["attachments"][0]["content"]
    assert card["type"] == "AdaptiveCard"
    assert card["body"][0]["text"] == r"\[x\]\(https://evil\)"


def test_teams_own_way_of_failing_is_a_failure(receiver: Receiver) -> None:
    channel("teams", receiver.url)
    receiver.body = b"Webhook message delivery failed with error: 429"
    tell()
    assert deliveries.deliver() == 0
    assert Delivery.objects.get().state == "waiting"


def test_a_mail_says_what_to_do_and_where(has_mail: None) -> None:
    channel("mail", "ada@example.org")
    tell(detail={"url": "/dashboard/keys/"})
    assert deliveries.deliver() == 1
    message = mail.outbox[0]
    assert message.to == ["ada@example.org"]
    assert message.subject == "[Copilot Gateway] Key 'laptop': 1 % spent"
    assert "https://gateway.example.org/dashboard/keys/" in message.body
    assert message.message()["Auto-Submitted"] == "auto-generated"


def test_without_a_mail_server_that_is_said(settings: Any) -> None:
    settings.EMAIL_IS_SET_UP = False
    channel("mail", "ada@example.org")
    tell()
    assert deliveries.deliver() == 0
    assert "EMAIL_URL" in Delivery.objects.get().error
    assert mail.outbox == []


def test_addresses_and_secrets_are_ciphertext_in_the_database() -> None:
    channel(address="https://chat.example.org/T000/secretpart")
    with connection.cursor() as cursor:
        cursor.execute("SELECT address, secret FROM usage_channel")
        row = cursor.fetchone()
    assert "secretpart" not in row[0]
    assert "cgwh_" not in row[1]


def test_an_undecryptable_channel_fails_alone(receiver: Receiver, settings: Any) -> None:
    channel(name="old", address=receiver.url)
    settings.ENCRYPTION_KEYS = ["another key"]
    channel(name="new", address=receiver.url)
    tell()
    assert deliveries.deliver() == 1
    assert "ENCRYPTION_KEYS" in Delivery.objects.get(channel__name="old").error


def test_the_test_button_stores_nothing(receiver: Receiver) -> None:
    found = channel(address=receiver.url)
    assert deliveries.send_test(found, "ada") == ""
    receiver.status = 404
    assert deliveries.send_test(found, "ada") == "It answered 404."
    assert not Notification.objects.exists()


def test_a_signature_of_another_time_is_another_signature() -> None:
    assert channels.sign("s", "1", b"x") != channels.sign("s", "2", b"x")
