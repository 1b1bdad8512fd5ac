"""Every page of the admin, as everybody: who may see it, what it never says, what it costs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.core.cache import cache
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.admin_rules import secret_names
from accounts.models import AuditEntry, Member
from proxy.models import ApprovalRule, Catalog, ModelAlias, ModelPolicy
from tests.proxy.admin_rows import MAKERS, secrets

admin.autodiscover()
REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)
# Rows that people make and change here; all others are the gateway's or have pages of their own.
EDITED = {
    "accounts.Account",
    "accounts.ApiKey",
    "accounts.GitHubApp",
    "accounts.GroupMapping",
    "accounts.Member",
    "accounts.Pool",
    "accounts.Team",
    "accounts.UpstreamProfile",
    "proxy.ApprovalRule",
    "proxy.ModelAlias",
    "proxy.ModelPolicy",
    "usage.Channel",
    "usage.Price",
}
ADDED = EDITED - {"accounts.Account", "accounts.ApiKey"} | {
    "accounts.BudgetRaise",
    "accounts.Notice",
}


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any, tmp_path: Path) -> Iterator[None]:
    settings.STATIC_ROOT = tmp_path
    yield
    cache.clear()


def signed_in(name: str, **rights: bool) -> Client:
    member = Member.objects.create_user(name, **rights)
    client = Client()
    client.force_login(member)
    return client


@pytest.fixture
def ada(db: None) -> Client:
    return signed_in("ada", is_superuser=True, is_staff=True)


@pytest.fixture
def aud(db: None) -> Client:
    return signed_in("aud", is_auditor=True, is_staff=True)


def page(model: type[models.Model], name: str = "changelist", *args: object) -> str:
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{name}", args=args)


def flat(actions: Any) -> list[str]:
    """The names of acts, those of menus too."""
    menus = [act["items"] if isinstance(act, dict) else [act] for act in actions]
    return [name for menu in menus for name in menu]


def test_every_model_of_ours_has_its_place() -> None:
    from django.apps import apps

    ours = {
        m for name in ("accounts", "usage", "proxy") for m in apps.get_app_config(name).get_models()
    }

    assert ours - set(REGISTERED) == set()
    assert set(REGISTERED) == set(MAKERS)


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_everybody_sees_what_is_theirs_to_see_and_no_secret(
    model: type[models.Model], ada: Client, aud: Client
) -> None:
    row = MAKERS[model](1)
    pages = [page(model), page(model, "change", row.pk), page(model, "add")]
    label = model._meta.label
    hidden = secrets()

    admins = [ada.get(url) for url in pages]
    auditors = [aud.get(url) for url in pages]
    # A right given by mistake opens nothing.
    member, stranger = signed_in("mia", is_staff=True), Client()
    members = [member.get(url) for url in pages]

    assert [answer.status_code for answer in admins] == [200, 200, 200 if label in ADDED else 403]
    assert [answer.status_code for answer in auditors] == [200, 200, 403]
    assert {answer.status_code for answer in members} == {403}
    assert [stranger.get(url).status_code for url in pages] == [302, 302, 302]
    for answer in (*admins, *auditors):
        text = answer.content.decode()
        assert [one for one in hidden if one in text] == []


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_auditors_change_nothing(model: type[models.Model], aud: Client) -> None:
    row = MAKERS[model](1)
    before = list(model._default_manager.values())
    its_admin = admin.site._registry[model]
    rows = {"_selected_action": [str(row.pk)], "confirmed": "yes", "post": "yes"}

    shown = aud.get(page(model)).content.decode()
    for act in [*(its_admin.actions or ()), "delete_selected"]:
        aud.post(page(model), {"action": act, **rows})
    for act in {*its_admin.actions_row, *flat(its_admin.actions_detail)}:  # type: ignore[attr-defined]
        url = reverse(
            f"admin:{model._meta.app_label}_{model._meta.model_name}_{act}", args=[row.pk]
        )
        assert aud.get(url).status_code == 403
        assert aud.post(url, {"confirmed": "yes"}).status_code == 403
        assert url not in shown
    aud.post(page(model, "change", row.pk), {"name": "evil", "username": "evil", "text": "evil"})
    aud.post(page(model, "delete", row.pk), {"post": "yes"})

    assert list(model._default_manager.values()) == before
    assert not AuditEntry.objects.filter(actor="aud").exists()


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_a_list_costs_the_same_with_ten_times_the_rows(
    model: type[models.Model], ada: Client
) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert ada.get(page(model)).status_code == 200
        return len(queries)

    for number in range(1, 4):
        MAKERS[model](number)
    ada.get(page(model))
    few = cost()
    for number in range(4, 31):
        MAKERS[model](number)

    assert cost() == few
    assert few <= 14


@pytest.mark.parametrize(
    "lookup",
    ["github_token__startswith=g", "copilot_token=", "digest__gt=a", "password__startswith=p",
     "private_key__contains=B", "address__startswith=g", "request__startswith=g",
     "device_code__startswith=g", "data__secret__startswith=g"],
)  # fmt: skip
def test_no_filter_of_an_address_guesses_a_secret(lookup: str, ada: Client, aud: Client) -> None:
    name = lookup.partition("__")[0].partition("=")[0]
    having = [model for model in REGISTERED if name in secret_names(model)]
    assert having
    for model in having:
        MAKERS[model](1)
        for client in (ada, aud):
            answer = client.get(f"{page(model)}?{lookup}")
            # Refused: back to the whole list, or a bad request.
            assert answer.status_code in (302, 400)


@pytest.fixture
def save(ada: Client) -> Callable[..., dict[str, Any]]:
    """Fill in a form; what it then complains of."""

    def send(model: type[models.Model], data: dict[str, Any], pk: Any = None) -> dict[str, Any]:
        url = page(model, "add") if pk is None else page(model, "change", pk)
        answer = ada.post(url, data)
        if answer.status_code == 302:
            return {}
        assert answer.status_code == 200
        return dict(answer.context["adminform"].form.errors)

    return send


def test_aliases_follow_the_rules_of_the_models_page(save: Callable[..., dict[str, Any]]) -> None:
    MAKERS[Catalog](1)

    assert "pattern" in save(ModelAlias, {"pattern": "a b", "model": "gpt-1"})
    assert "pattern" in save(ModelAlias, {"pattern": "gpt-1", "model": "gpt-1"})
    assert "model" in save(ModelAlias, {"pattern": "best", "model": "no-such"})
    assert save(ModelAlias, {"pattern": "best", "model": "gpt-1", "is_enabled": "on"}) == {}

    assert ModelAlias.objects.get(pattern="best").model == "gpt-1"
    assert AuditEntry.objects.filter(actor="ada", action="modelalias.added").exists()


def test_policies_have_limits_in_credits(save: Callable[..., dict[str, Any]]) -> None:
    MAKERS[Catalog](1)
    good = {"model": "GPT-5*", "plans": '["business"]', "budget_day": "2.5",
            "budget_warn_percent": "80", "office_hours": "Mon-Fri 08:00-19:00 Europe/Berlin"}  # fmt: skip

    assert "fallback" in save(ModelPolicy, {**good, "fallback": "no-such"})
    assert "office_hours" in save(ModelPolicy, {**good, "office_hours": "always"})
    assert "budget_day" in save(ModelPolicy, {**good, "budget_day": "-1"})
    assert save(ModelPolicy, good) == {}
    assert "model" in save(ModelPolicy, {**good, "model": "gpt-5*"})

    policy = ModelPolicy.objects.get()
    assert (policy.model, policy.budget_day_nano_aiu) == ("gpt-5*", 2_500_000_000)
    assert policy.requests_per_minute == 0


def test_rules_of_approval_are_kept_as_their_page_keeps_them(
    save: Callable[..., dict[str, Any]],
) -> None:
    good = {"name": "dear", "is_enabled": "on", "above_credits": "20", "models": "claude-*, gpt-5"}

    assert "outside_hours" in save(ApprovalRule, {**good, "outside_hours": "never"})
    assert save(ApprovalRule, good) == {}

    rule = ApprovalRule.objects.get()
    assert rule.above_nano_aiu == 20_000_000_000
    assert rule.for_models == ["claude-*", "gpt-5"]
    assert AuditEntry.objects.filter(action="approvalrule.added", target="dear").exists()
