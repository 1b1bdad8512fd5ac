"""Pages of notifications: own channels, a team's, the administrators'; nothing secret comes out."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts.encryption import Secret
from accounts.models import AuditEntry, Member, Team
from copilot_site.celery import app
from tests.usage.receiver import Receiver, receiving
from usage import large_exports, notices
from usage.models import Channel, Delivery
from usage.notices import EVENTS

ALL = [event.name for event in EVENTS]
NEW = "/dashboard/notifications/channels/new/"


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.GATEWAY_WEBHOOK_HOSTS = ["127.0.0.1"]
    with receiving() as running:
        yield running


def form(**values: Any) -> dict[str, Any]:
    return {
        "name": "ops",
        "audience": "me",
        "kind": "slack",
        "address": "https://hooks.example.org/T0/secretpart",
        "digest": "at_once",
        "events": ALL,
    } | values


def channel(**values: Any) -> Channel:
    return Channel.objects.create(
        name=values.pop("name", "ops"),
        kind="webhook",
        address=Secret.of(values.pop("address", "https://hooks.example.org/secretpart")),
        secret=Secret.of("cgwh_old"),
        **values,
    )


def test_a_member_adds_a_channel_and_its_address_is_never_shown(
    as_ben: Client, ben: Member
) -> None:
    assert as_ben.post(NEW, form()).status_code == 302
    made = Channel.objects.get()
    assert (made.member, made.team, made.events) == (ben, None, [])

    for path in ("/dashboard/notifications/", f"/dashboard/notifications/channels/{made.pk}/"):
        assert b"secretpart" not in as_ben.get(path).content
    assert "secretpart" not in str(AuditEntry.objects.get(action="channel.added").detail)


def test_a_webhooks_secret_is_shown_once(as_ben: Client) -> None:
    answer = as_ben.post(NEW, form(kind="webhook"))
    made = Channel.objects.get()
    secret = made.secret.reveal()
    assert secret.startswith("cgwh_")
    assert secret in answer.content.decode()
    assert (
        secret not in as_ben.get(f"/dashboard/notifications/channels/{made.pk}/").content.decode()
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"address": "https://127.0.0.1/"}, "inside the network"),
        ({"address": "http://example.org/"}, "https://"),
        ({"kind": "mail", "address": "nobody"}, "mail address"),
        ({"events": []}, "required"),
        ({"audience": "admins"}, "Select a valid choice"),
        ({"audience": "team-1"}, "Select a valid choice"),
        ({"address": ""}, "required"),
    ],
)
def test_what_cannot_be_is_said_by_its_field(
    values: dict[str, Any], reason: str, as_ben: Client
) -> None:
    Team.objects.create(pk=1, name="another's")
    answer = as_ben.post(NEW, form(**values))
    assert answer.status_code == 400
    assert reason in answer.content.decode()
    assert not Channel.objects.exists()


def test_a_lead_makes_a_channel_of_the_team_and_administrators_of_all(
    as_ben: Client, as_ada: Client, ben: Member
) -> None:
    team = Team.objects.create(name="octo", lead=ben)
    as_ben.post(NEW, form(audience=f"team-{team.pk}", name="ours"))
    as_ada.post(NEW, form(audience="admins", name="all", events=ALL[:2]))
    assert Channel.objects.get(name="ours").team == team
    everything = Channel.objects.get(name="all")
    assert (everything.member, everything.team, everything.events) == (None, None, ALL[:2])


def test_a_channel_is_nobody_elses(
    as_ben: Client, as_cleo: Client, as_ada: Client, as_aud: Client, ben: Member
) -> None:
    own = channel(member=ben, name="bens")
    admins = channel(name="of admins")
    notice = notices.note("task", "t", "", dedupe="1", member_id=ben.pk)
    assert notice is not None
    row = Delivery.objects.get(channel=own)
    Delivery.objects.update(state="failed")
    actions = ("test", "disable", "delete", "secret")
    paths = [
        f"/dashboard/notifications/channels/{own.pk}/",
        *(f"/dashboard/notifications/channels/{own.pk}/{action}/" for action in actions),
        f"/dashboard/notifications/deliveries/{row.pk}/again/",
    ]
    for client in (as_cleo, as_ada):
        for path in paths:
            assert client.post(path, form()).status_code == 404
        assert b"bens" not in client.get("/dashboard/notifications/").content
    for path in paths:
        assert as_aud.post(path, form()).status_code in (403, 404)
    for path in (p.replace(f"/{own.pk}/", f"/{admins.pk}/") for p in paths[:-1]):
        assert as_ben.post(path, form()).status_code == 404
    assert b"of admins" in as_aud.get("/dashboard/notifications/").content
    assert as_aud.get(f"/dashboard/notifications/channels/{admins.pk}/").status_code == 404
    assert Channel.objects.filter(is_enabled=True).count() == 2
    assert as_ben.get(paths[0]).status_code == 200


def test_an_edit_keeps_the_address_that_is_not_typed(as_ben: Client, ben: Member) -> None:
    own = channel(member=ben)
    as_ben.post(
        f"/dashboard/notifications/channels/{own.pk}/",
        {"name": "new", "address": "", "digest": "daily", "events": ["quota"]},
    )
    own.refresh_from_db()
    assert (own.name, own.digest, own.events) == ("new", "daily", ["quota"])
    assert own.address.reveal() == "https://hooks.example.org/secretpart"


def test_the_test_button_sends_and_says_what_came_of_it(
    as_ben: Client, ben: Member, receiver: Receiver
) -> None:
    own = channel(member=ben, address=receiver.url)
    path = f"/dashboard/notifications/channels/{own.pk}/test/"
    assert "was taken" in as_ben.post(path, follow=True).content.decode()
    assert len(receiver.got) == 1
    receiver.status = 410
    assert "It answered 410." in as_ben.post(path, follow=True).content.decode()
    for _ in range(6):
        last = as_ben.post(path, follow=True)
    assert "many tests" in last.content.decode()
    assert len(receiver.got) == 5


def test_a_channel_switched_off_forgets_what_waits(as_ben: Client, ben: Member) -> None:
    own = channel(member=ben)
    notices.note("task", "t", "", dedupe="1", member_id=ben.pk)
    as_ben.post(f"/dashboard/notifications/channels/{own.pk}/disable/")
    assert not Delivery.objects.exists()
    own.refresh_from_db()
    assert not own.is_enabled


def test_the_page_shows_what_was_given_up_and_why(as_ben: Client, ben: Member) -> None:
    channel(member=ben)
    notices.note("budget", "<b>80 %</b>", "Wait.", dedupe="1", member_id=ben.pk)
    notices.note("budget", "Cleo's business", "", dedupe="2", member_id=ben.pk + 1)
    Delivery.objects.update(state="failed", error="It answered 500.")
    body = as_ben.get("/dashboard/notifications/").content.decode()
    assert "&lt;b&gt;80 %&lt;/b&gt;" in body
    assert "It answered 500." in body
    assert "Cleo" not in body
    as_ben.post(f"/dashboard/notifications/deliveries/{Delivery.objects.get().pk}/again/")
    assert Delivery.objects.get().state == "waiting"


def test_the_page_costs_the_same_queries_for_many_notices(
    as_ben: Client, ben: Member, django_assert_max_num_queries: Any
) -> None:
    channel(member=ben)
    for number in range(120):
        notices.note("budget", f"n{number}", "", dedupe=str(number), member_id=ben.pk)
    with django_assert_max_num_queries(12):
        body = as_ben.get("/dashboard/notifications/").content.decode()
    assert "n119" in body
    assert "n70" in body
    assert "n69<" not in body


def test_a_link_out_of_the_house_is_not_made_of_a_notice(as_ada: Client) -> None:
    notices.note("task", "t", "", dedupe="1", detail={"url": "https://evil.example.org/"})
    assert b"evil.example.org" not in as_ada.get("/dashboard/notifications/").content


# Exports that are too large to wait for


def test_a_large_export_becomes_a_file_for_who_asked(
    world: Any, as_ben: Client, as_ada: Client, ben: Member, settings: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(large_exports, "LIMIT", 0)

    app.conf.task_always_eager = True
    try:
        answer = as_ben.get("/dashboard/requests/export.csv?range=7d", follow=True)
    finally:
        app.conf.task_always_eager = False

    assert "is being written" in answer.content.decode()
    notice = notices.visible_to(ben).get()
    url = notice.detail["url"]
    assert url in answer.content.decode()
    fetched = as_ben.get(url)
    text = b"".join(fetched).decode()
    assert world.exchange.id in text
    assert world.ada_exchange.id not in text
    assert fetched["Content-Disposition"].startswith('attachment; filename="requests_')
    assert as_ada.get(url).status_code == 404
    assert as_ben.get(url.replace(".csv", ".exe")).status_code == 404
    assert as_ben.get(f"/dashboard/requests/exports/{uuid4()}.csv").status_code == 404
    monkeypatch.setattr(large_exports, "KEPT_S", -1)
    assert large_exports.remove_old() == 1
    assert as_ben.get(url).status_code == 404
    assert now() - notice.at < timedelta(minutes=1)
