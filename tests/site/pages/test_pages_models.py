"""What changes in the model lists: kept with dates, told once, shown on pages and as a feed."""

import copy
import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.test import Client

from accounts.models import Account, AuditEntry, Member
from proxy import catalog, catalog_history
from proxy.catalog_history import Wish
from proxy.models import CatalogChange, ModelAlias, ModelPolicy
from usage.models import Notification

GPT = {
    "id": "gpt-5.5",
    "name": "GPT-5.5",
    "supported_endpoints": ["/responses"],
    "policy": {"state": "enabled"},
    "billing": {
        "token_prices": {
            "batch_size": 1_000_000,
            "default": {"input_price": 500, "output_price": 9},
        }
    },
    "capabilities": {
        "limits": {"max_output_tokens": 128_000, "vision": {"max_prompt_images": 1}},
        "supports": {"reasoning_effort": ["low", "high"]},
    },
}
OPUS = {"id": "claude-opus-5", "name": "Claude Opus 5"}


@pytest.fixture
def account(ben: Member) -> Account:
    return Account.objects.create(login="mona", owner=ben)


def signed_in(member: Member) -> Client:
    client = Client()
    client.force_login(member)
    return client


def refresh(account: Account, *entries: dict[str, Any]) -> None:
    catalog.store(account.pk, orjson.dumps({"data": entries}))


def changed(**path: Any) -> dict[str, Any]:
    """GPT-5.5 with other facts: `changed(billing__token_prices__default__input_price=400)`."""
    entry: dict[str, Any] = copy.deepcopy(GPT)
    for name, value in path.items():
        *parents, last = name.split("__")
        place = entry
        for parent in parents:
            place = place[parent]
        place[last] = value
    return entry


@pytest.mark.parametrize(
    ("after", "kind", "difference"),
    [
        (
            changed(billing__token_prices__default__input_price=400),
            "price",
            ("default.input_price", "500", "400"),
        ),
        (
            changed(capabilities__limits__max_output_tokens=64_000),
            "limits",
            ("max_output_tokens", "128000", "64000"),
        ),
        (
            changed(capabilities__supports__reasoning_effort=["low", "high", "xhigh"]),
            "limits",
            ("reasoning_effort", "low, high", "low, high, xhigh"),
        ),
        (
            changed(supported_endpoints=["/responses", "/chat/completions"]),
            "endpoints",
            ("served on", "/responses", "/chat/completions, /responses"),
        ),
        (changed(policy={"state": "disabled"}), "policy", ("state", "enabled", "disabled")),
    ],
)
def test_each_kind_of_change_is_kept_with_before_and_after(
    account: Account, after: dict[str, Any], kind: str, difference: tuple[str, str, str]
) -> None:
    refresh(account, GPT, OPUS)
    refresh(account, after, OPUS)

    (row,) = CatalogChange.objects.all()
    assert (row.kind, row.model, row.account) == (kind, "gpt-5.5", account)
    (found,) = catalog_history.differences(row)
    assert (found.name, found.before, found.after) == difference


def test_the_first_list_and_one_that_stays_the_same_are_no_change(account: Account) -> None:
    refresh(account, GPT, OPUS)
    # Order and repeated ids say nothing, nor does what nobody pays for.
    refresh(account, OPUS, {**GPT, "version": "2"}, {**GPT, "name": "again"})

    assert not CatalogChange.objects.exists()
    assert not Notification.objects.exists()


def test_new_and_gone_models_are_told_once_for_all_accounts(
    account: Account, ada: Member, ben: Member
) -> None:
    other = Account.objects.create(login="lisa", owner=ada)
    ModelAlias.objects.create(pattern="opus", model="claude-opus-5")
    ModelPolicy.objects.create(model="gpt-9", fallback="claude-opus-5")
    new = {"id": "gpt-6", "name": "GPT-6"}
    for one in (account, other):
        refresh(one, GPT, OPUS)
        refresh(one, GPT, new)

    assert CatalogChange.objects.filter(kind="added", model="gpt-6").count() == 2
    (notice,) = Notification.objects.filter(event="catalog")
    assert "claude-opus-5 has gone." in notice.text
    assert "The alias opus points to claude-opus-5, which has gone." in notice.text
    assert "The fallback of gpt-9 is claude-opus-5, which has gone." in notice.text
    # On the page the same change of both accounts stands once; Ben sees his account's only.
    told = catalog_history.changes(None, Wish(model="gpt-6"), 10)
    assert [sorted(one.accounts) for one in told] == [["lisa", "mona"]]
    told = catalog_history.changes(ben.pk, Wish(model="gpt-6"), 10)
    assert [one.accounts for one in told] == [["mona"]]


def test_a_refresh_that_runs_twice_keeps_a_change_once(account: Account) -> None:
    refresh(account, GPT, OPUS)
    refresh(account, GPT)
    refresh(account, GPT)

    assert CatalogChange.objects.count() == 1


def test_the_page_filters_and_the_alias_is_warned_about(
    account: Account, ada: Member, ben: Member
) -> None:
    ModelAlias.objects.create(pattern="opus", model="claude-opus-5")
    refresh(account, GPT, OPUS)
    refresh(account, changed(capabilities__limits__max_output_tokens=64_000))
    client = signed_in(ada)

    page = client.get("/dashboard/models/changes/?kind=limits").content.decode()
    assert "64000" in page
    assert "claude-opus-5" not in page
    page = client.get("/dashboard/models/changes/?model=opus&days=7").content.decode()
    assert "claude-opus-5" in page
    assert "64000" not in page
    overview = client.get("/dashboard/models/").content.decode()
    assert re.search(r"claude-opus-5</bdi> <span class=\"pill bad\">gone</span>", overview)
    # A member without an account sees nothing of Ben's.
    cleo = signed_in(Member.objects.create_user("cleo"))
    assert "64000" not in cleo.get("/dashboard/models/changes/").content.decode()
    assert "64000" in signed_in(ben).get("/dashboard/models/changes/").content.decode()


def test_the_feed_lets_in_whom_its_address_names_until_the_password_changes(
    account: Account, ben: Member, client: Client
) -> None:
    refresh(account, GPT, OPUS)
    refresh(account, GPT)
    page = signed_in(ben).get("/dashboard/models/changes/").content.decode()
    found = re.search(r'href="(/dashboard/models/changes\.atom\?key=[^"]+)"', page)
    assert found is not None
    feed = client.get(found[1])
    assert feed["Content-Type"].startswith("application/atom+xml")
    assert "claude-opus-5 has gone." in feed.content.decode()

    assert client.get("/dashboard/models/changes.atom").status_code == 404
    assert client.get(found[1][:-3] + "abc").status_code == 404
    ben.set_password("another")
    ben.save()
    assert client.get(found[1]).status_code == 404


def test_the_feed_of_one_who_has_left_is_closed(
    account: Account, ben: Member, client: Client
) -> None:
    page = signed_in(ben).get("/dashboard/models/changes/").content.decode()
    address = re.findall(r'href="(/dashboard/models/changes\.atom[^"]+)"', page)[0]
    assert client.get(address).status_code == 200

    ben.is_active = False
    ben.save()

    assert client.get(address).status_code == 404


@pytest.mark.parametrize("who", ["ben", "auditor"])
def test_only_an_administrator_changes_models(
    who: str, account: Account, ben: Member, django_user_model: Any
) -> None:
    refresh(account, GPT, changed(id="grok", policy={"state": "disabled", "terms": "T"}))
    alias = ModelAlias.objects.create(pattern="fast", model="gpt-5.5")
    policy = ModelPolicy.objects.create(model="gpt-5*")
    person = ben if who == "ben" else Member.objects.create_user("aud", is_auditor=True)
    client = signed_in(person)
    attempts: list[Callable[[], Any]] = [
        lambda: client.post("/dashboard/models/aliases/", {"pattern": "a", "model": "gpt-5.5"}),
        lambda: client.post(f"/dashboard/models/aliases/{alias.pk}/", {"action": "delete"}),
        lambda: client.post("/dashboard/models/policies/new/", {"model": "x"}),
        lambda: client.post(f"/dashboard/models/policies/{policy.pk}/", {"action": "delete"}),
        lambda: client.post(f"/dashboard/models/terms/{account.pk}/grok/", {"agreed": "on"}),
    ]

    assert {attempt().status_code for attempt in attempts} <= {403, 404}
    assert ModelAlias.objects.count() == ModelPolicy.objects.count() == 1
    assert not AuditEntry.objects.filter(actor=person.username).exists()
    page = client.get("/dashboard/models/").content.decode()
    assert '<form method="post" action="/dashboard/models' not in page


def test_every_act_is_audited(account: Account, ada: Member) -> None:
    refresh(account, GPT, OPUS)
    client = signed_in(ada)
    client.post("/dashboard/models/aliases/", {"pattern": "fast", "model": "gpt-5.5"})
    alias = ModelAlias.objects.get()
    client.post(f"/dashboard/models/aliases/{alias.pk}/", {"action": "disable"})
    client.post("/dashboard/models/policies/new/", {"model": "GPT-5*", "fallback": "claude-opus-5"})
    policy = ModelPolicy.objects.get()
    assert (policy.model, policy.is_enabled) == ("gpt-5*", False)
    client.post(f"/dashboard/models/policies/{policy.pk}/", {"model": "gpt-5*", "is_enabled": "on"})
    client.post(f"/dashboard/models/policies/{policy.pk}/", {"action": "delete"})

    acts = list(
        AuditEntry.objects.filter(actor="ada").order_by("at").values_list("action", flat=True)
    )
    assert acts == [
        "alias.added", "alias.disabled", "policy.added", "policy.changed", "policy.deleted",
    ]  # fmt: skip
    change = AuditEntry.objects.get(action="policy.changed").detail
    assert change["before"]["is_enabled"] is False
    assert change["after"]["is_enabled"] is True


def test_the_models_page_costs_a_fixed_number_of_queries(
    account: Account, ada: Member, django_assert_max_num_queries: Any
) -> None:
    refresh(account, *({**GPT, "id": f"gpt-{n}"} for n in range(40)))
    for n in range(20):
        ModelAlias.objects.create(pattern=f"a{n}", model=f"gpt-{n}")
        ModelPolicy.objects.create(model=f"gpt-{n}")
        Member.objects.create_user(f"m{n}", models_denied=[f"gpt-{n}"])
    client = signed_in(ada)
    with django_assert_max_num_queries(30):
        page = client.get("/dashboard/models/").content.decode()
    assert "member m3" in page
