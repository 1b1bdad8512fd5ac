"""Who may use which model, and what serves instead: the rules over lists in memory."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from accounts.book import AccountView
from accounts.keys import Caller, ModelRule
from accounts.models import Account
from proxy import catalog, policies
from proxy.catalog import AccountCatalog, Book, Entry, read_entry
from proxy.errors import Forbidden, NotFound
from proxy.policies import Policies, Policy

LISTED = {
    "claude-opus-4.7": "enabled",
    "claude-opus-4.8": "enabled",
    "gpt-4.1": None,
    "gpt-4o-2024-11-20": None,
    "gpt-5.4": "enabled",
    "gpt-5.5": "enabled",
    "grok-4.6": "disabled",
}
CALLER = Caller(
    key_id=1, key_name="laptop", key_prefix="cgw_x", member_id=1, member="ben", is_admin=False
)


def entry(model_id: str, state: str | None) -> Entry:
    raw: dict[str, Any] = {"id": model_id, "capabilities": {"type": "chat"}}
    found = read_entry(raw | ({"policy": {"state": state}} if state else {}))
    assert found is not None
    return found


ENTRIES = {model_id: entry(model_id, state) for model_id, state in LISTED.items()}


@pytest.fixture
def account() -> AccountView:
    from accounts.book import view_of

    return view_of(Account(pk=7, login="mona", plan="business", sku="copilot_for_business_seat"))


@pytest.fixture(autouse=True)
def known_lists(account: AccountView) -> Iterator[None]:
    kept = catalog.book.value, policies.book.value
    catalog.book.value = Book({7: AccountCatalog(ENTRIES, None)}, (("sonnet", "gpt-5.5"),))
    policies.book.value = Policies()
    yield
    catalog.book.value, policies.book.value = kept


def ruled(**lists: Any) -> Caller:
    return replace(CALLER, model_rules=(ModelRule("the team Blue", **lists),))


def decide(*rows: Policy) -> None:
    exact = {row.pattern: row for row in rows if not row.pattern.endswith("*")}
    wide = sorted((r for r in rows if r.pattern.endswith("*")), key=lambda r: -len(r.pattern))
    policies.book.value = Policies(exact, tuple(wide))


def policy(
    pattern: str, fallback: str = "", *, on: bool = True, plans: tuple[str, ...] = ()
) -> Policy:
    return Policy(1, pattern, on, plans, fallback)


def chosen(account: AccountView, name: str, caller: Caller = CALLER) -> tuple[str, str]:
    choice = policies.choose(caller, account, name, ENTRIES)
    return choice.entry.id, choice.fallback


@pytest.mark.parametrize(
    ("lists", "name", "may"),
    [
        ({"allowed": ("gpt-5*",)}, "gpt-5.5", True),
        ({"allowed": ("gpt-5*",)}, "gpt-4.1", False),
        ({"allowed": ("GPT-5*",)}, "gpt-5.5", True),
        ({"allowed": ("*",), "denied": ("gpt-5.5",)}, "gpt-5.4", True),
        ({"allowed": ("*",), "denied": ("gpt-5.5",)}, "gpt-5.5", False),
        ({"denied": ("gpt-5*",)}, "gpt-5.4", False),
        ({"denied": ("gpt-5*",)}, "gpt-4.1", True),
        # The same model by another name.
        ({"denied": ("claude-opus-4-8",)}, "claude-opus-4.8", False),
        ({"denied": ("claude-opus-4-*",)}, "anthropic/claude-opus-4-7", False),
        ({"denied": ("sonnet",)}, "gpt-5.5", False),
        ({"denied": ("gpt-5.5",)}, "sonnet", False),
        ({"allowed": ("claude-opus-4-8",)}, "claude-opus-4.8", True),
        ({"allowed": ("sonnet",)}, "sonnet", True),
        # What only looks as if it were allowed.
        ({"allowed": ("gpt-4*",)}, "gpt-4/gpt-5.5", False),
        ({"allowed": ("gpt-4.1*",)}, "gpt-4o-2024-11-20", False),
        ({"denied": ("gpt-4.1",)}, "gpt-4o-2024-11-20", True),
    ],
)
def test_a08_allow_and_deny_lists_hold_by_every_name_of_a_model(
    account: AccountView, lists: dict[str, Any], name: str, may: bool
) -> None:
    caller = ruled(**lists)

    if may:
        assert chosen(account, name, caller)
        policies.check(caller, name)
        return
    with pytest.raises(Forbidden, match=r"the team Blue|The team Blue") as refused:
        chosen(account, name, caller)
    assert refused.value.code == "model_not_permitted"


def test_every_rule_must_let_a_model_through(account: AccountView) -> None:
    rules = (ModelRule("this API key", ("gpt-5*",)), ModelRule("the member ben", (), ("gpt-5.5",)))
    caller = replace(CALLER, model_rules=rules)

    assert policies.permits(caller, account, ENTRIES["gpt-5.4"])
    assert not policies.permits(caller, account, ENTRIES["gpt-5.5"])
    with pytest.raises(Forbidden, match="denied for the member ben"):
        policies.may_use(caller, account, ENTRIES["gpt-5.5"])
    with pytest.raises(Forbidden, match=r"This API key may not use .*It may use: gpt-5"):
        policies.may_use(caller, account, ENTRIES["gpt-4.1"])


def test_a_policy_switches_off_what_fits_it_and_the_longest_counts(account: AccountView) -> None:
    decide(policy("gpt-5*", on=False), policy("gpt-5.4", on=True))

    assert chosen(account, "gpt-5.4") == ("gpt-5.4", "")
    assert not policies.permits(CALLER, account, ENTRIES["gpt-5.5"])
    with pytest.raises(Forbidden, match=r"switched off by an administrator \(policy 'gpt-5\*'\)"):
        chosen(account, "gpt-5.5")


@pytest.mark.parametrize(
    ("plan", "plans", "may"),
    [
        ("business", ("business", "enterprise"), True),
        ("enterprise", ("business",), False),
        ("individual_pro", ("pro_plus",), True),
        ("individual_pro", ("individual*",), True),
        ("individual", ("pro_plus",), False),
        ("", ("individual",), True),
    ],
)
def test_a_policy_may_be_for_accounts_of_some_plans(
    account: AccountView, plan: str, plans: tuple[str, ...], may: bool
) -> None:
    decide(policy("gpt-5.5", plans=plans))
    account = replace(account, plan=plan, sku="", account_type="individual")

    assert policies.permits(CALLER, account, ENTRIES["gpt-5.5"]) is may


@pytest.mark.parametrize(
    ("rows", "name", "used", "reason"),
    [
        ([policy("gpt-9", "gpt-4.1")], "gpt-9", "gpt-4.1", "not in the account's list"),
        ([policy("gpt-9*", "gpt-4.1")], "gpt-9.9-mini", "gpt-4.1", "not in the account's list"),
        (
            [policy("gpt-5.5", "gpt-4.1", on=False)],
            "gpt-5.5",
            "gpt-4.1",
            "switched off by an administrator",
        ),
        ([policy("grok-4.6", "gpt-5.4")], "grok-4.6", "gpt-5.4", "its terms are not accepted"),
        (
            [policy("gpt-5.5", "gpt-4.1", plans=("enterprise",))],
            "gpt-5.5",
            "gpt-4.1",
            "not for the account's plan",
        ),
        # An alias stands for its model; said is what was asked.
        (
            [policy("gpt-5.5", "gpt-4.1", on=False)],
            "sonnet",
            "gpt-4.1",
            "switched off by an administrator",
        ),
        # A fallback that was said counts more than the nearest of the family.
        ([policy("claude-opus-9", "gpt-5.4")], "claude-opus-9", "gpt-5.4", "not in the account's"),
    ],
)
def test_the_fallback_serves_and_says_why(
    account: AccountView, rows: list[Policy], name: str, used: str, reason: str
) -> None:
    decide(*rows)

    model, told = chosen(account, name)

    assert model == used
    assert told.startswith(f"{name} -> {used} (")
    assert reason in told


def test_without_a_fallback_the_family_still_helps(account: AccountView) -> None:
    assert chosen(account, "claude-opus-9") == ("claude-opus-4.8", "")


def test_fallbacks_follow_one_another_three_times_at_most(account: AccountView) -> None:
    chain = [policy(f"gpt-{n}", f"gpt-{n + 1}") for n in (10, 11, 12)]
    decide(*chain[:2], policy("gpt-12", "gpt-4.1"))
    assert chosen(account, "gpt-10")[0] == "gpt-4.1"

    decide(*chain, policy("gpt-13", "gpt-4.1"))
    with pytest.raises(NotFound, match="gpt-10"):
        chosen(account, "gpt-10")


def test_fallbacks_that_go_round_end_with_the_first_refusal(account: AccountView) -> None:
    decide(policy("gpt-5.5", "gpt-5.4", on=False), policy("gpt-5.4", "gpt-5.5", on=False))

    with pytest.raises(Forbidden, match=r"'gpt-5\.5' is switched off"):
        chosen(account, "gpt-5.5")


def test_a_fallback_lifts_nobodys_own_rules(account: AccountView) -> None:
    decide(policy("gpt-5.5", "gpt-4.1", on=False))

    with pytest.raises(Forbidden, match=r"'gpt-5.5' is switched off"):
        chosen(account, "gpt-5.5", ruled(denied=("gpt-4.1",)))
    with pytest.raises(Forbidden, match=r"'gpt-5.5' is denied for the team Blue"):
        chosen(account, "gpt-5.5", ruled(denied=("gpt-5.5",)))
    # Nor does a model that is not there open the way to one that is not allowed.
    decide(policy("gpt-9", "gpt-4.1"))
    with pytest.raises(Forbidden, match="may use these models only"):
        chosen(account, "gpt-9", ruled(allowed=("gpt-5*",)))


def test_what_is_asked_cannot_break_the_header_that_tells_of_a_fallback(
    account: AccountView,
) -> None:
    decide(policy("gpt*", "gpt-4.1"))

    _model, told = chosen(account, "gpt\r\nset-cookie: x=1 \N{SNOWMAN}" + "y" * 300)

    assert told.isascii()
    assert told.isprintable()
    assert len(told) < 200


@pytest.mark.parametrize("text", ["gpt-5*, claude-opus-4.8", "a:b/c_d", "*"])
def test_patterns_are_read(text: str) -> None:
    assert policies.read_patterns(text)


@pytest.mark.parametrize("text", ["gpt-*-mini", "a b;c", "gpt'--", "x" * 101, "**"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no model id and no pattern"):
        policies.read_patterns(text)


@pytest.mark.parametrize(
    ("model", "fallback", "others", "fits"),
    [
        ("a", "b", {}, True),
        ("a", "b", {"b": "c", "c": "d"}, True),
        ("a", "b", {"b": "c", "c": "d", "d": "e"}, False),
        ("a", "b", {"b": "a"}, False),
        ("a", "b", {"b*": "c", "c": "b"}, False),
        ("gpt-5*", "gpt-5.4", {}, False),
        ("a", "a", {}, False),
    ],
)
def test_a_fallback_that_leads_nowhere_is_refused_when_it_is_made(
    model: str, fallback: str, others: dict[str, str], fits: bool
) -> None:
    if fits:
        policies.check_fallback(model, fallback, others)
        return
    with pytest.raises(ValueError, match=r"go round|More than 3"):
        policies.check_fallback(model, fallback, others)
