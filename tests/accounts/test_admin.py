"""The admin of people and seats: what acts do, what they ask, what they write down."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.contrib import admin
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils.timezone import localdate, now

from accounts import invites, keys, pools
from accounts.models import (
    Account,
    ApiKey,
    AuditEntry,
    BudgetRaise,
    GitHubApp,
    GroupMapping,
    Invite,
    Member,
    Notice,
    Pool,
    SignInLink,
    Team,
    UpstreamProfile,
)

admin.autodiscover()
Make = Callable[..., Account]


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any, tmp_path: Path) -> Iterator[None]:
    settings.STATIC_ROOT = tmp_path
    yield
    cache.clear()


@pytest.fixture
def browser(ada: Member) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def address(model: type, name: str = "changelist", *args: object) -> str:
    return reverse(f"admin:accounts_{model.__name__.lower()}_{name}", args=args)


def chosen(action: str, *rows: Any, **data: Any) -> dict[str, Any]:
    return {"action": action, "_selected_action": [str(row.pk) for row in rows], **data}


def act(browser: Client, action: str, *rows: Any, **data: Any) -> str:
    """Run a list action on the rows and say yes; what the administrator then reads."""
    sent = chosen(action, *rows, confirmed="yes", **data)
    answer = browser.post(address(type(rows[0])), sent, follow=True)
    assert answer.status_code == 200
    return "\n".join(str(message) for message in answer.context["messages"])


def actions(target: Any) -> list[str]:
    rows = AuditEntry.objects.filter(actor="ada", target=str(target)).order_by("pk")
    return list(rows.values_list("action", flat=True))


# Acts in general.


def test_a_grave_act_asks_and_names_what_it_touches(browser: Client, ben: Member) -> None:
    keys.create("laptop", ben)
    keys.create("ci", ben)

    asked = browser.post(address(Member), chosen("disable", ben))

    text = asked.content.decode()
    assert asked.status_code == 200
    assert "ben" in text
    assert "laptop (cgw_" in text
    assert "ci (cgw_" in text
    ben.refresh_from_db()
    assert ben.is_active
    assert not AuditEntry.objects.filter(action="member.disabled").exists()


def test_a_link_only_asks_and_a_form_acts(browser: Client, ben: Member) -> None:
    url = address(Member, "disable", ben.pk)

    assert browser.get(url).status_code == 200
    assert browser.get(url, {"confirmed": "yes"}).status_code == 200
    ben.refresh_from_db()
    assert ben.is_active

    answer = browser.post(url, {"confirmed": "yes"})
    assert answer["Location"] == address(Member, "change", ben.pk)
    ben.refresh_from_db()
    assert not ben.is_active


def test_an_act_needs_its_csrf_token(ada: Member, ben: Member) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ada)

    assert strict.post(address(Member, "disable", ben.pk), {"confirmed": "yes"}).status_code == 403
    ben.refresh_from_db()
    assert ben.is_active


@pytest.mark.parametrize("number", ["0", "999999", "x", "9" * 40, "1' or 1=1"])
def test_an_act_on_nothing_is_not_found(browser: Client, number: str) -> None:
    url = address(Member, "disable", 1).replace("/1/", f"/{number}/")

    assert browser.get(url).status_code == 404
    assert browser.post(url).status_code == 404


def test_more_rows_than_anybody_looked_at_are_refused(browser: Client) -> None:
    people = Member.objects.bulk_create(Member(username=f"p{n}") for n in range(201))

    assert "at most 200" in act(browser, "disable", *people)
    assert Member.objects.filter(is_active=False).count() == 0


# Members.


def test_disabling_a_member_takes_the_keys_along(browser: Client, ada: Member, ben: Member) -> None:
    keys.create("laptop", ben)

    said = act(browser, "disable", ben, ada)

    ben.refresh_from_db()
    ada.refresh_from_db()
    assert not ben.is_active
    # Nobody locks themselves out.
    assert "ada: Another administrator has to do this." in said
    assert ada.is_active
    assert ApiKey.objects.get().state == "revoked"
    assert "member.disabled" in actions("ben")
    assert "ben: enabled." in act(browser, "enable", ben)
    # Keys that were revoked stay so.
    assert ApiKey.objects.get().state == "revoked"


def test_roles_change_and_one_administrator_stays(
    browser: Client, ada: Member, ben: Member
) -> None:
    assert "last administrator" in act(browser, "make_member", ada)
    for action, role in (
        ("make_auditor", "auditor"),
        ("make_administrator", "admin"),
        ("make_member", "member"),
    ):
        act(browser, action, ben)
        ben.refresh_from_db()
        assert ben.role == role

    ada.refresh_from_db()
    assert ada.is_superuser
    assert actions("ben") == ["member.role_changed"] * 3


def test_rights_are_not_changed_by_the_form(browser: Client, ben: Member) -> None:
    sent = {"username": "ben", "theme": "dark", "budget_warn_percent": "80",
            "is_superuser": "on", "is_staff": "on", "is_active": "", "budget_week": "12.5",
            "models_denied": "gpt-5*, o3"}  # fmt: skip

    answer = browser.post(address(Member, "change", ben.pk), sent)

    assert answer.status_code == 302
    ben.refresh_from_db()
    assert (ben.is_superuser, ben.is_staff, ben.is_active) == (False, False, True)
    assert (ben.theme, ben.budget_week_nano_aiu) == ("dark", 12_500_000_000)
    assert ben.models_denied == ["gpt-5*", "o3"]


def test_a_new_member_can_be_made_and_invited(browser: Client) -> None:
    data = {
        "username": "cleo",
        "password1": "rather long 77",
        "password2": "rather long 77",
        "usable_password": "true",
    }

    browser.post(address(Member, "add"), data)

    assert Member.objects.get(username="cleo").check_password("rather long 77")
    assert actions("cleo") == ["member.added"]
    invite = address(Member, "invite")
    assert invite in browser.get(address(Member)).content.decode()
    assert browser.get(invite)["Location"] == reverse("invite-new")


def test_a_member_with_links_and_keys_can_be_deleted(
    browser: Client, ada: Member, ben: Member
) -> None:
    keys.create("laptop", ben)
    SignInLink.objects.create(digest=b"d" * 32, member=ben, expires_at=now())

    assert "laptop" in browser.get(address(Member, "delete", ben.pk)).content.decode()
    browser.post(address(Member, "delete", ben.pk), {"post": "yes"})
    browser.post(address(Member, "delete", ada.pk), {"post": "yes"})

    assert list(Member.objects.all()) == [ada]
    assert actions("ben") == ["member.deleted"]


# Teams, groups, invites, raises, the notice.


def test_a_team_is_made_with_limits_and_its_name_is_its_own(browser: Client, ben: Member) -> None:
    good = {"name": "Research", "lead": ben.pk, "requests_per_minute": "60",
            "budget_month": "1000", "budget_warn_percent": "80", "budget_is_hard": "on"}  # fmt: skip

    assert browser.post(address(Team, "add"), good).status_code == 302
    assert browser.post(address(Team, "add"), {**good, "name": "research"}).status_code == 200

    team = Team.objects.get()
    assert (team.lead, team.requests_per_minute, team.concurrency) == (ben, 60, 0)
    assert team.budget_month_nano_aiu == 1000 * 10**9
    assert actions(team) == ["team.added"]


def test_groups_are_mapped_as_github_names_them(browser: Client) -> None:
    browser.post(address(GroupMapping, "add"), {"group": " GitHub:Octo ", "role": "auditor"})

    assert GroupMapping.objects.get().group == "github:octo"
    assert actions("github:octo") == ["groupmapping.added"]


def test_an_invite_is_revoked_once(browser: Client, ada: Member) -> None:
    invite, _token = invites.make(actor=ada, email="c@example.org")

    assert "revoked." in act(browser, "revoke", invite)
    assert "ended before" in act(browser, "revoke", invite)

    assert Invite.objects.get().state == "revoked"


def test_a_raise_is_given_to_one_and_ended(browser: Client, ben: Member) -> None:
    good = {"member": ben.pk, "period": "day", "extra": "5", "reason": "sprint",
            "last_day": f"{localdate() + timedelta(days=2)}"}  # fmt: skip
    team = Team.objects.create(name="Research")

    assert browser.post(address(BudgetRaise, "add"), {**good, "team": team.pk}).status_code == 200
    past = {**good, "last_day": "2020-01-01"}
    assert browser.post(address(BudgetRaise, "add"), past).status_code == 200
    assert browser.post(address(BudgetRaise, "add"), good).status_code == 302

    given = BudgetRaise.objects.get()
    assert (given.extra_nano_aiu, given.granted_by) == (5 * 10**9, "ada")
    assert "budget.raised" in actions("ben")
    assert "ended." in act(browser, "end", given)
    given.refresh_from_db()
    assert given.ends_at <= now()


def test_a_notice_is_published_and_not_rewritten(browser: Client, ben: Member) -> None:
    browser.post(address(Notice, "add"), {"text": "Be kind."})
    notice = Notice.objects.get()

    same = browser.post(address(Notice, "add"), {"text": "Be kind."})
    changed = browser.post(address(Notice, "change", notice.pk), {"text": "Be cruel."})
    browser.post(address(Notice, "delete", notice.pk), {"post": "yes"})

    assert (same.status_code, changed.status_code) == (200, 403)
    assert Notice.objects.get().text == "Be kind."
    assert "notice.published" in actions(notice)


# Seats.


def test_a_pool_in_use_is_not_deleted(browser: Client, make_account: Make, ada: Member) -> None:
    pool = Pool.objects.create(name="build")
    pools.put(make_account(), pool, actor=ada)

    text = browser.get(address(Pool, "delete", pool.pk)).content.decode()
    browser.post(address(Pool, "delete", pool.pk), {"post": "yes"})
    assert "octocat" in text
    assert Pool.objects.exists()

    pools.take_out(Account.objects.get(), actor=ada)
    browser.post(address(Pool, "delete", pool.pk), {"post": "yes"})
    assert not Pool.objects.exists()


def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def test_a_private_key_goes_in_and_never_comes_out(browser: Client, ada: Member) -> None:
    text = pem()
    good = {"name": "Octo", "issuer": "Iv1.abc", "host": "github.com", "key": text}

    assert browser.post(address(GitHubApp, "add"), {**good, "key": ""}).status_code == 200
    wrong = browser.post(address(GitHubApp, "add"), {**good, "key": "no key"})
    assert "not a private key" in wrong.content.decode()
    evil = browser.post(address(GitHubApp, "add"), {**good, "host": "evil.example"})
    assert evil.status_code == 200
    assert browser.post(address(GitHubApp, "add"), good).status_code == 302

    app = GitHubApp.objects.get()
    assert app.private_key.reveal() == text
    page = browser.get(address(GitHubApp, "change", app.pk)).content.decode()
    assert text.splitlines()[1] not in page
    assert app.private_key.ciphertext not in page
    # Empty keeps it.
    browser.post(address(GitHubApp, "change", app.pk), {**good, "name": "Octo 2", "key": ""})
    app.refresh_from_db()
    assert (app.name, app.private_key.reveal()) == ("Octo 2", text)
    assert "app.changed" in actions("Octo 2")


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
    assert "exactly one" in act(browser, "activate", old, new)
    act(browser, "activate", old)
    assert list(UpstreamProfile.objects.filter(is_active=True)) == [old]
    browser.post(address(UpstreamProfile, "delete", old.pk), {"post": "yes"})
    assert UpstreamProfile.objects.filter(pk=old.pk).exists()
