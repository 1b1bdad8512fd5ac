"""Pools, GitHub Apps, and what may be done with an account, by whom."""

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client

from accounts import book, keys, pools
from accounts.encryption import Secret
from accounts.models import Account, ApiKey, AuditEntry, DeviceLogin, GitHubApp, Member, Pool, Team
from simulator.testing import SimulatorThread

POOLS = "/dashboard/pools/"


def text(answer: Any) -> str:
    return " ".join(str(answer.content.decode()).replace("<bdi>", "").replace("</bdi>", "").split())


@pytest.fixture
def github(settings: Any) -> Iterator[SimulatorThread]:
    with SimulatorThread(device_interval_s=0) as simulator:
        settings.GITHUB_URL = settings.GITHUB_API_URL = simulator.url
        settings.COPILOT_API_URL = ""
        settings.GATEWAY_DEVICE_FLOW_MARGIN_S = 0.0
        yield simulator


@pytest.fixture
def pool(db: None) -> Pool:
    return Pool.objects.create(name="engineering")


@pytest.fixture
def seat(db: None) -> Account:
    return Account.objects.create(login="acme-seat", github_token=Secret.of("ghu_octocat"))


def at(pool: Pool) -> str:
    return f"{POOLS}{pool.pk}/"


def test_an_administrator_makes_a_pool_of_the_organisations_seats(
    ada: Member, as_ada: Client, seat: Account
) -> None:
    made = as_ada.post(POOLS, {"name": "engineering"}, follow=True)
    pool = Pool.objects.get()
    assert "engineering" in text(made)
    assert not pool.failover

    as_ada.post(at(pool), {"do": "add", "account": seat.pk, "weight": 3})
    team = Team.objects.create(name="web")
    key, _ = keys.create("ci", ada)
    as_ada.post(
        at(pool),
        {
            "do": "save",
            "name": "engineering",
            "failover": "on",
            "teams": [team.pk],
            "keys": [key.pk],
        },
    )

    seat.refresh_from_db()
    pool.refresh_from_db()
    assert (seat.pool, seat.weight, pool.failover) == (pool, 3, True)
    assert ApiKey.objects.get().pool == pool
    assert Team.objects.get().pool == pool
    shown = text(as_ada.get(at(pool)))
    assert "acme-seat" in shown
    assert "exchanged token" in shown
    assert "acme-seat" in text(as_ada.get("/dashboard/accounts/"))
    assert "pool <a" in text(as_ada.get("/dashboard/accounts/"))
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"pool.added", "pool.changed", "pool.account_added", "pool.users_changed"} <= actions

    as_ada.post(at(pool), {"do": "weigh", "account": seat.pk, "weight": 0})
    as_ada.post(at(pool), {"do": "drop", "account": seat.pk})
    seat.refresh_from_db()
    assert (seat.pool, seat.weight) == (None, 0)


def test_a_personal_account_is_refused_with_the_reason(
    world: Any, as_ada: Client, pool_of_world: Pool
) -> None:
    answer = as_ada.post(at(pool_of_world), {"do": "add", "account": world.account.pk, "weight": 1})

    assert answer.status_code == 400
    assert "belongs to ben" in text(answer)
    assert Account.objects.get(pk=world.account.pk).pool is None


@pytest.fixture
def pool_of_world(world: Any) -> Pool:
    found: Pool = world.pool
    return found


def test_a_pool_in_use_is_kept(as_ada: Client, pool: Pool, seat: Account) -> None:
    as_ada.post(at(pool), {"do": "add", "account": seat.pk, "weight": 1})

    kept = as_ada.post(at(pool), {"do": "remove"}, follow=True)
    assert "still has seats" in text(kept)
    as_ada.post(at(pool), {"do": "drop", "account": seat.pk})
    as_ada.post(at(pool), {"do": "remove"})

    assert not Pool.objects.exists()


@pytest.mark.parametrize("do", ["save", "add", "weigh", "drop", "remove"])
def test_auditors_see_a_pool_and_change_nothing(
    do: str, as_aud: Client, pool: Pool, seat: Account
) -> None:
    seat.pool = pool
    seat.save()
    shown = as_aud.get(at(pool))
    assert shown.status_code == 200
    assert "<form" not in text(shown).partition("<main")[2].partition("</main")[0]

    answer = as_aud.post(at(pool), {"do": do, "account": seat.pk, "weight": 7, "name": "x"})

    assert answer.status_code == 403
    seat.refresh_from_db()
    assert (seat.pool, seat.weight) == (pool, 1)
    assert Pool.objects.get().name == "engineering"


def test_strange_input_is_not_found(as_ada: Client, pool: Pool) -> None:
    for account in ("", "x", "-1", "9" * 40, "١"):
        answer = as_ada.post(at(pool), {"do": "drop", "account": account})
        assert answer.status_code == 404
    assert as_ada.post(at(pool), {"do": "strange"}).status_code == 404


# GitHub Apps.


@pytest.mark.django_db(transaction=True)
def test_an_app_and_its_installation_become_a_pooled_seat(
    github: SimulatorThread, ada: Member, as_ada: Client, pool: Pool
) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    github.add_app("Iv23acme", public.decode(), {"42": {"login": "acme-bot"}})

    form = {"name": "Acme", "issuer": "Iv23acme", "host": "github.com", "key": "no key"}
    assert "private key" in text(as_ada.post("/dashboard/apps/", form))
    assert not GitHubApp.objects.exists()
    made = as_ada.post("/dashboard/apps/", form | {"key": pem}, follow=True)
    app = GitHubApp.objects.get()
    assert "PRIVATE KEY" not in text(made)
    place = f"/dashboard/apps/{app.pk}/"
    install = {
        "do": "install", "login": "acme", "installation_id": "43", "account_type": "business",
        "pool": pool.pk,
    }  # fmt: skip
    assert "no such installation" in text(as_ada.post(place, install))
    assert not Account.objects.exists()
    shown = as_ada.post(place, install | {"installation_id": "42"}, follow=True)

    account = Account.objects.get()
    assert (account.login, account.pool, account.owner) == ("acme", pool, None)
    assert account.credential_kind == "installation"
    assert "acme" in text(shown)
    detail = text(as_ada.get("/dashboard/accounts/acme/"))
    assert "App installation" in detail
    assert "Poll quota now" not in detail
    assert "billed to the organisation" in detail
    for page in (place, "/dashboard/apps/", "/dashboard/accounts/acme/", "/dashboard/health/"):
        assert "PRIVATE KEY" not in text(as_ada.get(page))

    # The key stays when the field is left empty, and the App while it is used.
    as_ada.post(place, {"do": "save", "name": "Acme 2", "issuer": "Iv23acme", "host": "github.com"})
    app.refresh_from_db()
    assert (app.name, app.private_key.reveal()) == ("Acme 2", pem)
    as_ada.post(f"{place}remove/")
    assert GitHubApp.objects.exists()
    as_ada.post("/dashboard/accounts/acme/disconnect/", {"login": "acme"})
    as_ada.post(f"{place}remove/")
    assert not GitHubApp.objects.exists()
    assert not Account.objects.exists()


# What may be done with an account.


@pytest.mark.django_db(transaction=True)
def test_a_member_connects_an_account_that_their_keys_use(
    github: SimulatorThread, ben: Member, as_ben: Client
) -> None:
    _, secret = keys.create("laptop", ben)
    started = as_ben.post(
        "/dashboard/accounts/connect/", {"account_type": "individual", "host": "github.com"}
    )
    device = DeviceLogin.objects.get()
    github.approve_device("octocat", device.user_code)
    for _ in range(3):
        # It is time to ask GitHub.
        DeviceLogin.objects.update(next_poll_at=None)
        as_ben.get(started["Location"], headers={"HX-Request": "true"})

    account = Account.objects.get()
    assert (account.login, account.owner) == ("octocat", ben)
    book.snapshot.refresh(force=True)
    who = keys.ring.value.entries[keys.digest_of(secret)].caller
    assert [one.login for one in pools.seats_of(who)] == ["octocat"]


def test_a_member_pauses_and_resumes_their_own(world: Any, as_ben: Client, as_ada: Client) -> None:
    place = "/dashboard/accounts/mona-dev/"
    as_ben.post(f"{place}pause/")
    assert Account.objects.get().state == "paused"
    as_ben.post(f"{place}resume/")
    assert Account.objects.get().state == "active"

    as_ada.post(f"{place}pause/")
    answer = as_ben.post(f"{place}resume/", follow=True)
    assert Account.objects.get().state == "paused"
    assert "An administrator has paused it" in text(answer)


def test_nobody_resumes_what_github_refuses(world: Any, as_ben: Client) -> None:
    for state in ("needs_sign_in", "no_seat", "cooling_down"):
        Account.objects.update(state=state)
        as_ben.post("/dashboard/accounts/mona-dev/resume/")
        assert Account.objects.get().state == state


def test_a_frozen_account_is_not_freed_by_connecting_it_again(
    world: Any, as_ben: Client, as_ada: Client
) -> None:
    place = "/dashboard/accounts/mona-dev/"
    Account.objects.update(state="frozen")
    for action in ("pause", "resume", "unfreeze", "disconnect"):
        as_ben.post(f"{place}{action}/", {"login": "mona-dev"})
        assert Account.objects.get().state == "frozen"

    as_ada.post(f"{place}unfreeze/")

    assert Account.objects.get().state == "active"
    entry = AuditEntry.objects.filter(action="account.active").latest("pk")
    assert entry.actor == "ada"


def test_disconnecting_asks_for_the_name(world: Any, as_ben: Client, as_cleo: Client) -> None:
    place = "/dashboard/accounts/mona-dev/disconnect/"
    assert as_cleo.post(place, {"login": "mona-dev"}).status_code == 404
    as_ben.post(place, {"login": "mona"})
    assert Account.objects.exists()

    as_ben.post(place, {"login": "mona-dev"})

    assert not Account.objects.exists()
    assert AuditEntry.objects.filter(action="account.removed", actor="ben").exists()


def test_an_auditor_acts_on_no_account(world: Any, as_aud: Client) -> None:
    place = "/dashboard/accounts/mona-dev/"
    assert as_aud.get(place).status_code == 200
    for action in ("pause", "resume", "unfreeze", "poll", "refresh", "disconnect", "release"):
        answer = as_aud.post(f"{place}{action}/", {"login": "mona-dev"})
        assert answer.status_code == 403
    assert Account.objects.get().state == "active"


def test_only_an_administrator_hands_their_own_to_the_organisation(
    world: Any, ada: Member, as_ada: Client, as_ben: Client
) -> None:
    mine = Account.objects.create(login="ada-dev", owner=ada)
    assert as_ben.post("/dashboard/accounts/mona-dev/release/").status_code == 404
    as_ada.post("/dashboard/accounts/mona-dev/release/")
    as_ada.post("/dashboard/accounts/ada-dev/release/")

    mine.refresh_from_db()
    assert mine.owner is None
    assert Account.objects.get(login="mona-dev").owner is not None


def test_every_page_of_pools_costs_a_fixed_number_of_queries(
    ada: Member, as_ada: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        pool = Pool.objects.create(name=f"pool {number}")
        Account.objects.create(login=f"seat-{number}", pool=pool)

    with django_assert_max_num_queries(25):
        assert as_ada.get(POOLS).status_code == 200
