"""The admin: what it shows, what it never shows, who may, and what it writes down."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from accounts import keys, links, states
from accounts.encryption import Secret
from accounts.models import (
    Account,
    ApiKey,
    AuditEntry,
    DeviceLogin,
    Member,
    SignInLink,
    UpstreamProfile,
)
from copilot_site import celery

# The app of this process: without it a task goes to Celery's default broker.
assert celery.app.conf.broker_url == "memory://"
MODELS = (Account, ApiKey, AuditEntry, DeviceLogin, Member, SignInLink, UpstreamProfile)
Make = Callable[..., Account]


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any, tmp_path: Path) -> Iterator[None]:
    settings.STATIC_ROOT = tmp_path
    plain = "django.contrib.staticfiles.storage.StaticFilesStorage"
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": plain}}
    yield
    cache.clear()


@pytest.fixture
def browser(ada: Member) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def address(model: type, name: str = "changelist", *args: object) -> str:
    return reverse(f"admin:accounts_{model.__name__.lower()}_{name}", args=args)


def act(browser: Client, action: str, *rows: Any) -> str:
    """Run a list action on the rows; what the administrator then reads."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    answer = browser.post(address(type(rows[0])), data, follow=True)
    assert answer.status_code == 200
    return "\n".join(str(message) for message in answer.context["messages"])


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_its_pages_without_a_secret(
    browser: Client, ben: Member, make_account: Make, model: type
) -> None:
    account = make_account(copilot_token=Secret.of("tid=clear"), owner=ben)
    key, secret = keys.create("laptop", ben)
    link = links.make(ben)
    login = DeviceLogin(
        id="6f1c6d2e-5f0f-4d4e-9b4c-1c2d3e4f5a6b", user_code="WDJB-MJHT", expires_at=now()
    )
    login.device_code = Secret.of("device-secret")
    login.save()
    UpstreamProfile.objects.get_or_create(
        name="one", defaults={"valid_from": now().date(), "accepted_betas": []}
    )
    row = model._default_manager.first()  # type: ignore[attr-defined]

    pages = [address(model), address(model, "change", row.pk)]
    texts = [browser.get(page) for page in pages]

    assert [text.status_code for text in texts] == [200, 200]
    hidden = (
        "ghu_octocat",
        "tid=clear",
        "device-secret",
        secret,
        link,
        account.github_token.ciphertext,
        login.device_code.ciphertext,
        bytes(key.digest).hex(),
    )
    for text in texts:
        for one in hidden:
            assert one not in text.content.decode()


def test_a_list_of_accounts_costs_a_fixed_number_of_queries(
    browser: Client, ben: Member, make_account: Make, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        make_account(f"dev{number}", owner=ben)

    with django_assert_max_num_queries(12):
        browser.get(address(Account))


@pytest.mark.parametrize("model", MODELS)
def test_members_and_strangers_see_nothing(ben: Member, model: type) -> None:
    Member.objects.filter(pk=ben.pk).update(is_staff=True)
    member, stranger = Client(), Client()
    member.force_login(ben)

    assert member.get(address(model)).status_code == 403
    assert stranger.get(address(model)).status_code == 302


def test_accounts_keys_and_the_log_cannot_be_added(browser: Client) -> None:
    for model in (Account, ApiKey, AuditEntry, DeviceLogin, SignInLink):
        assert browser.get(address(model, "add")).status_code == 403


def test_the_audit_log_cannot_be_changed(browser: Client, ada: Member) -> None:
    entry = AuditEntry.objects.create(actor="ada", action="x")

    browser.post(address(AuditEntry, "change", entry.pk), {"actor": "ben"})
    browser.post(address(AuditEntry, "delete", entry.pk), {"post": "yes"})

    assert AuditEntry.objects.get(pk=entry.pk).actor == "ada"


def test_pause_resume_and_unfreeze_are_written_down(browser: Client, make_account: Make) -> None:
    account = make_account()

    assert "octocat" in act(browser, "pause", account)
    account.refresh_from_db()
    assert account.state == Account.State.PAUSED
    # Releasing the frozen does not resume the paused.
    act(browser, "unfreeze", account)
    account.refresh_from_db()
    assert account.state == Account.State.PAUSED
    act(browser, "resume", account)
    account.refresh_from_db()
    assert account.state == Account.State.ACTIVE

    states.set_state(account, Account.State.FROZEN, "abuse wording")
    act(browser, "pause", account)
    act(browser, "resume", account)
    account.refresh_from_db()
    assert account.state == Account.State.FROZEN
    act(browser, "unfreeze", account)
    account.refresh_from_db()
    assert account.state == Account.State.ACTIVE

    written = AuditEntry.objects.filter(actor="ada").values_list("action", "address")
    assert set(written) == {("account.paused", "127.0.0.1"), ("account.active", "127.0.0.1")}


def test_refresh_runs_as_a_task_that_is_named(browser: Client, make_account: Make) -> None:
    account = make_account()

    assert "octocat: task " in act(browser, "refresh_now", account)
    assert AuditEntry.objects.filter(actor="ada", action="account.refresh_asked").exists()


def test_revoking_keys_acts_and_is_written_down(browser: Client, ben: Member) -> None:
    key, _ = keys.create("laptop", ben)

    assert str(key) in act(browser, "revoke", key)
    assert "all were revoked before" in act(browser, "revoke", key)

    assert ApiKey.objects.get().state == "revoked"
    entry = AuditEntry.objects.get(action="key.revoked")
    assert (entry.actor, entry.address) == ("ada", "127.0.0.1")


def test_disabling_a_member_takes_the_keys_along(browser: Client, ada: Member, ben: Member) -> None:
    keys.create("laptop", ben)

    act(browser, "disable", ben, ada)

    ben.refresh_from_db()
    ada.refresh_from_db()
    assert not ben.is_active
    # Nobody locks themselves out.
    assert ada.is_active
    assert ApiKey.objects.get().state == "revoked"
    assert AuditEntry.objects.filter(action="member.disabled", target="ben").exists()


def test_an_account_form_changes_only_what_people_decide(
    browser: Client, ben: Member, make_account: Make
) -> None:
    account = make_account()

    browser.post(
        address(Account, "change", account.pk),
        {
            "owner": ben.pk,
            "account_type": "business",
            "state": "frozen",
            "api_base": "https://evil.example",
            "github_token": "ghu_evil",
        },
    )

    account.refresh_from_db()
    assert (account.owner_id, account.account_type) == (ben.pk, "business")
    assert (account.state, account.api_base) == (Account.State.ACTIVE, "")
    assert account.github_token.reveal() == "ghu_octocat"
    assert AuditEntry.objects.filter(actor="ada", action="account.changed").exists()


def test_a_new_member_can_be_made(browser: Client) -> None:
    data = {
        "username": "cleo",
        "password1": "rather long 77",
        "password2": "rather long 77",
        "usable_password": "true",
    }

    browser.post(address(Member, "add"), data)

    assert Member.objects.get(username="cleo").check_password("rather long 77")
    assert AuditEntry.objects.filter(action="member.added", target="cleo").exists()


def test_one_profile_is_active_after_choosing_another(browser: Client) -> None:
    UpstreamProfile.objects.all().delete()
    old, new = (
        UpstreamProfile.objects.create(
            name=name, valid_from=now().date() - timedelta(days=days), is_active=days == 1
        )
        for days, name in ((1, "old"), (0, "new"))
    )

    act(browser, "activate", new)

    assert list(UpstreamProfile.objects.filter(is_active=True)) == [new]
    act(browser, "activate", old)
    assert list(UpstreamProfile.objects.filter(is_active=True)) == [old]


def test_every_model_of_accounts_is_in_the_admin() -> None:
    for model in MODELS:
        assert admin.site.is_registered(model)
