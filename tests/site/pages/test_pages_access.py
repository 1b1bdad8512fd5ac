"""Who sees which page: every address, four persons and a stranger."""

from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver

from accounts.models import Account, AuditEntry, Member

# By the name of the address: what everybody sees, what the owner (Ben) and administrators see,
# what only administrators and auditors (Aud) see, what only administrators see.
SHARED = {
    "overview": "/dashboard/",
    "search": "/dashboard/search/?q=x",
    "requests": "/dashboard/requests/",
    "export-csv": "/dashboard/requests/export.csv",
    "export-json": "/dashboard/requests/export.json",
    "live": "/dashboard/live/",
    "in-flight": "/dashboard/live/in-flight.json",
    "accounts": "/dashboard/accounts/",
    "connect": "/dashboard/accounts/connect/?new=1",
    "keys": "/dashboard/keys/",
    "key-new": "/dashboard/keys/new/",
    "models": "/dashboard/models/",
    "setup": "/dashboard/setup/",
    "setup-seen": "/dashboard/setup/seen/?since=2026-11-20T00:00:00Z",
    "me": "/dashboard/me/",
    "translate": "/dashboard/translate/",
    "model-changes": "/dashboard/models/changes/",
    "notice": "/dashboard/notice/",
    "notifications": "/dashboard/notifications/",
    "channel-new": "/dashboard/notifications/channels/new/",
    "reports": "/dashboard/reports/",
    "report": "/dashboard/reports/key/",
    "report-csv": "/dashboard/reports/model.csv",
    "report-json": "/dashboard/reports/model.json",
    "privacy": "/dashboard/privacy/",
}
OWN = {
    "exchange": "/dashboard/requests/{exchange}/",
    "conversation": "/dashboard/conversations/conversation-of-ben/",
    "account": "/dashboard/accounts/mona-dev/",
    "connect-login": "/dashboard/accounts/connect/{device}/",
    "key": "/dashboard/keys/{prefix}/",
}
TEAM = {
    "approvals": "/dashboard/approvals/",
    "approval-rules": "/dashboard/approvals/rules/",
    "health": "/dashboard/health/",
    "members": "/dashboard/members/",
    "member": "/dashboard/members/ben/",
    "teams": "/dashboard/teams/",
    "team": "/dashboard/teams/{team}/",
    "groups": "/dashboard/groups/",
    "notice-edit": "/dashboard/notice/edit/",
    "pools": "/dashboard/pools/",
    "pool": "/dashboard/pools/{pool}/",
    "apps": "/dashboard/apps/",
    "app": "/dashboard/apps/{app}/",
    "reconciliation": "/dashboard/reports/reconciliation/",
    "months": "/dashboard/reports/months/",
    "month": "/dashboard/reports/months/2026-09/",
    "month-csv": "/dashboard/reports/months/2026-09.csv",
    "month-json": "/dashboard/reports/months/2026-09.json",
}
ADMIN_ONLY = {
    "approval-rule-new": "/dashboard/approvals/rules/new/",
    "approval-rule": "/dashboard/approvals/rules/{rule}/",
    "invite-new": "/dashboard/invites/new/",
    "policy-new": "/dashboard/models/policies/new/",
    "policy": "/dashboard/models/policies/{policy}/",
    "model-terms": "/dashboard/models/terms/{account}/grok-4.6/",
}
OWN_EFFECTS = {
    "connect-cancel": "/dashboard/accounts/connect/{device}/cancel/",
    "account-act": "/dashboard/accounts/mona-dev/pause/",
    "key-revoke": "/dashboard/keys/{prefix}/revoke/",
    "key-rotate": "/dashboard/keys/{prefix}/rotate/",
    "key-store": "/dashboard/keys/{prefix}/store/",
    "bodies": "/dashboard/requests/{exchange}/bodies/",
    "bodies-delete": "/dashboard/requests/{exchange}/bodies/delete/",
}
TEAM_EFFECTS = {
    "key-extend": "/dashboard/keys/{prefix}/extend/",
    "key-limits": "/dashboard/keys/{prefix}/limits/",
    "key-seat": "/dashboard/keys/{prefix}/seat/",
    "key-copy-limits": "/dashboard/keys/{prefix}/copy-limits/",
    "decide": "/dashboard/approvals/some-id/",
    "approval-rule-delete": "/dashboard/approvals/rules/{rule}/delete/",
    "alias-add": "/dashboard/models/aliases/",
    "alias-act": "/dashboard/models/aliases/{alias}/",
    "member-act": "/dashboard/members/ben/disable/",
    "member-raise": "/dashboard/members/ben/raise/",
    "raise-end": "/dashboard/raises/{raised}/end/",
    "team-raise": "/dashboard/teams/{team}/raise/",
    "team-delete": "/dashboard/teams/{team}/delete/",
    "invite-revoke": "/dashboard/invites/{invite}/revoke/",
    "group-remove": "/dashboard/groups/{mapping}/remove/",
    "app-remove": "/dashboard/apps/{app}/remove/",
    "month-close": "/dashboard/reports/months/close/",
    "month-sign-off": "/dashboard/reports/months/2026-09/sign-off/",
}
EFFECTS = {
    "password": "/dashboard/me/password/",
    "theme": "/dashboard/me/theme/",
    "language": "/dashboard/me/language/",
    "session-end": "/dashboard/me/sessions/end/",
    "bodies-delete-own": "/dashboard/privacy/delete/",
}
OPEN = {"sign-in", "sign-out", "join"}
# By a key of its own in the address; tried in test_pages_models.
KEYED = {"model-feed"}
# Nobody's but the person's own, an administrator included: tried in test_pages_notifications.py.
PRIVATE = {"channel", "channel-act", "delivery-again", "large-export"}
# Forms by which something is made: for auditors they do not exist.
MAKING = {"connect", "key-new", "channel-new"}


def place(path: str, world: Any) -> str:
    return path.format(
        exchange=world.exchange.id,
        device=world.device.pk,
        prefix=world.key.prefix,
        team=world.team.pk,
        invite=world.invite.pk,
        mapping=world.mapping.pk,
        raised=world.raised.pk,
        rule=world.rule.pk,
        account=world.account.pk,
        alias=world.alias.pk,
        policy=world.policy.pk,
        pool=world.pool.pk,
        app=world.app.pk,
    )


def test_every_address_of_the_dashboard_is_tried_here() -> None:
    tried = (SHARED, OWN, TEAM, ADMIN_ONLY, OWN_EFFECTS, TEAM_EFFECTS, EFFECTS)
    known = set().union(*tried, OPEN, KEYED, PRIVATE)
    found = set()
    for resolver in get_resolver().url_patterns:
        if isinstance(resolver, URLResolver) and str(resolver.pattern) == "dashboard/":
            found |= {p.name for p in resolver.url_patterns if isinstance(p, URLPattern)}

    assert found == known


@pytest.mark.parametrize(
    "path", [*SHARED.values(), *OWN.values(), *TEAM.values(), *ADMIN_ONLY.values()]
)
def test_d09_a_stranger_is_sent_to_the_sign_in_page(path: str, world: Any, client: Client) -> None:
    answer = client.get(place(path, world))

    assert answer.status_code == 302
    assert answer["Location"].startswith("/dashboard/sign-in/?next=")


@pytest.mark.parametrize("path", [*OWN_EFFECTS.values(), *TEAM_EFFECTS.values(), *EFFECTS.values()])
def test_a_stranger_has_no_effect(path: str, world: Any, client: Client) -> None:
    answer = client.post(place(path, world))

    assert answer.status_code == 302
    assert answer["Location"].startswith("/dashboard/sign-in/")
    assert Account.objects.get().state == "active"


@pytest.mark.parametrize("path", SHARED.values())
def test_everybody_sees_the_shared_pages(
    path: str, world: Any, as_ada: Client, as_ben: Client, as_cleo: Client
) -> None:
    expected = 302 if "search" in path else 200

    assert as_ada.get(path).status_code == expected
    assert as_ben.get(path).status_code == expected
    assert as_cleo.get(path).status_code == expected


@pytest.mark.parametrize("path", OWN.values())
def test_things_of_a_member_are_there_for_the_member_and_administrators(
    path: str, world: Any, as_ada: Client, as_ben: Client, as_cleo: Client
) -> None:
    path = place(path, world)

    assert as_ada.get(path).status_code == 200
    assert as_ben.get(path).status_code == 200
    assert as_cleo.get(path).status_code == 404


@pytest.mark.parametrize("path", TEAM_EFFECTS.values())
def test_members_act_for_nobody(path: str, world: Any, as_ben: Client) -> None:
    assert as_ben.post(place(path, world)).status_code == 404


@pytest.mark.parametrize("path", TEAM.values())
def test_pages_of_the_team_exist_for_administrators_and_auditors_only(
    path: str, world: Any, as_ada: Client, as_aud: Client, as_ben: Client, as_cleo: Client
) -> None:
    path = place(path, world)

    assert as_ada.get(path).status_code == 200
    assert as_aud.get(path).status_code == 200
    assert as_ben.get(path).status_code == 404
    assert as_cleo.get(path).status_code == 404


@pytest.mark.parametrize("path", ADMIN_ONLY.values())
def test_some_pages_exist_for_administrators_only(
    path: str, world: Any, as_ada: Client, as_aud: Client, as_ben: Client
) -> None:
    path = place(path, world)

    assert as_ada.get(path).status_code == 200
    assert as_aud.get(path).status_code == 404
    assert as_ben.get(path).status_code == 404


@pytest.mark.parametrize("name", [*SHARED, *OWN])
def test_an_auditor_sees_what_administrators_see_but_no_form_that_makes_something(
    name: str, world: Any, as_aud: Client, as_ada: Client
) -> None:
    path = place((SHARED | OWN)[name], world)

    expected = 404 if name in MAKING else as_ada.get(path).status_code
    assert as_aud.get(path).status_code == expected


@pytest.mark.parametrize(
    "path",
    [
        *SHARED.values(),
        *OWN.values(),
        *TEAM.values(),
        *ADMIN_ONLY.values(),
        *OWN_EFFECTS.values(),
        *TEAM_EFFECTS.values(),
    ],
)
def test_whatever_an_auditor_sends_changes_nothing(
    path: str, world: Any, aud: Member, as_aud: Client
) -> None:
    if path in {SHARED["me"], SHARED["notice"], SHARED["translate"]}:
        pytest.skip("their own, or without any effect")
    before = AuditEntry.objects.count()

    answer = as_aud.post(place(path, world), {"name": "laptop", "decision": "approve"})

    assert answer.status_code in (403, 404)
    assert AuditEntry.objects.count() == before
    assert not Account.objects.exclude(state="active").exists()
    assert not Member.objects.filter(is_active=False).exists()
    world.key.refresh_from_db()
    assert world.key.revoked_at is None


def test_an_auditor_changes_their_own_preferences(aud: Member, as_aud: Client) -> None:
    as_aud.post("/dashboard/me/theme/", {"theme": "dark"})
    as_aud.post("/dashboard/me/language/", {"language": "ar"})

    aud.refresh_from_db()
    assert (aud.theme, aud.language) == ("dark", "ar")


def test_pages_offer_an_auditor_nothing_to_press(world: Any, as_aud: Client) -> None:
    for path in [*OWN.values(), *TEAM.values(), SHARED["accounts"], SHARED["keys"], "/dashboard/"]:
        body = as_aud.get(place(path, world)).content.decode()
        inside = body.partition('id="content"')[2].partition("</main>")[0]
        assert 'method="post"' not in inside, path


@pytest.mark.parametrize("path", OWN_EFFECTS.values())
def test_d07_nobody_acts_on_things_of_another_member(
    path: str, world: Any, as_cleo: Client
) -> None:
    assert as_cleo.post(place(path, world), {"name": "laptop"}).status_code == 404
    world.key.refresh_from_db()
    assert world.key.revoked_at is None


@pytest.mark.parametrize("path", [*OWN_EFFECTS.values(), *TEAM_EFFECTS.values(), *EFFECTS.values()])
def test_d20_effects_are_refused_by_get(path: str, world: Any, as_ada: Client) -> None:
    assert as_ada.get(place(path, world)).status_code == 405


@pytest.mark.parametrize(
    "path", [*OWN_EFFECTS.values(), *TEAM_EFFECTS.values(), *EFFECTS.values(), "/dashboard/me/"]
)
def test_d01_effects_are_refused_without_the_token_against_forgery(
    path: str, world: Any, ada: Member
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)

    assert client.post(place(path, world)).status_code == 403


def test_members_see_only_their_own_exchanges_and_keys(
    world: Any, as_ben: Client, as_cleo: Client, as_ada: Client
) -> None:
    assert world.exchange.id in as_ben.get("/dashboard/requests/").content.decode()
    assert world.ada_exchange.id not in as_ben.get("/dashboard/requests/").content.decode()
    assert world.ada_exchange.id not in as_ben.get("/dashboard/live/").content.decode()
    assert world.exchange.id in as_ada.get("/dashboard/requests/").content.decode()
    assert "No requests yet" in as_cleo.get("/dashboard/").content.decode()
    assert world.ada_key.prefix not in as_ben.get("/dashboard/keys/").content.decode()
    assert world.ada_key.prefix in as_ada.get("/dashboard/keys/").content.decode()


def test_a_filter_for_another_member_shows_nothing_of_that_member(
    world: Any, ada: Member, as_ben: Client
) -> None:
    for path in ("/dashboard/requests/", "/dashboard/requests/export.csv", "/dashboard/"):
        answer = as_ben.get(path, {"member": ada.pk, "range": "30d"})
        body = b"".join(answer) if answer.streaming else answer.content
        assert world.ada_exchange.id.encode() not in body
        assert b"ci</bdi>" not in body


def test_members_see_the_percentage_of_other_accounts_and_no_buttons(
    world: Any, as_cleo: Client, as_ben: Client
) -> None:
    from usage import quota

    document = {
        "copilot_plan": "individual_pro",
        "quota_reset_date_utc": "2099-01-01T00:00:00Z",
        "quota_snapshots": {
            "premium_interactions": {
                "quota_id": "premium_interactions",
                "entitlement": 7000,
                "remaining": 1750,
                "quota_remaining": 1750.0,
                "percent_remaining": 25.0,
            }
        },
    }
    quota.store(world.account, document)

    theirs = as_cleo.get("/dashboard/accounts/").content.decode()
    own = as_ben.get("/dashboard/accounts/").content.decode()

    assert "75\u202f%" in theirs
    assert "7,000" not in theirs
    assert "Poll quota now" not in theirs
    assert "7,000" in own
    assert "Poll quota now" in own


def test_unfreezing_is_for_administrators(world: Any, as_ben: Client, as_ada: Client) -> None:
    Account.objects.update(state="frozen")

    assert as_ben.post("/dashboard/accounts/mona-dev/unfreeze/").status_code == 404
    as_ben.post("/dashboard/accounts/mona-dev/resume/")
    assert Account.objects.get().state == "frozen"
    as_ada.post("/dashboard/accounts/mona-dev/unfreeze/")
    assert Account.objects.get().state == "active"


def test_pausing_and_resuming_is_audited(world: Any, as_ben: Client) -> None:
    as_ben.post("/dashboard/accounts/mona-dev/pause/")
    assert Account.objects.get().state == "paused"
    as_ben.post("/dashboard/accounts/mona-dev/resume/")
    assert Account.objects.get().state == "active"

    said = list(AuditEntry.objects.filter(actor="ben").values_list("action", flat=True))
    assert "account.paused" in said
    assert "account.active" in said


def test_an_unknown_action_does_not_exist(world: Any, as_ada: Client) -> None:
    assert as_ada.post("/dashboard/accounts/mona-dev/delete/").status_code == 404


def test_the_admin_asks_at_our_own_door(client: Client, as_ben: Client, as_ada: Client) -> None:
    answer = client.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0].startswith("/dashboard/sign-in/?next=%2Fadmin%2F")

    # A member who is no administrator is not sent in circles.
    assert as_ben.get("/admin/", follow=True).status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        "range=%00",
        "from=0001-01-01&to=9999-12-31",
        "from=9999-12-30&to=9999-12-31",
        "from=0001-01-01&to=0001-01-02",
        "from=2026-13-45&to=x",
        "member=99999999999999999999999",
        "key=-1&account=1e9",
        "after=nonsense",
        "after=0001-01-01T00:00:00%2b00:00~x",
        "after=9999-12-31T23:59:59-23:59~%00",
        "model=%00%ff&q=%27%22%3c&outcome=%3cscript%3e",
        "by=__class__&range=cycle",
        "q=" + "a" * 5000,
    ],
)
def test_d19_wild_filters_are_ignored(query: str, world: Any, as_ada: Client) -> None:
    for path in ("/dashboard/", "/dashboard/requests/", "/dashboard/requests/export.json"):
        assert as_ada.get(f"{path}?{query}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/requests/%00/",
        "/dashboard/requests/..%2f..%2fetc/",
        "/dashboard/accounts/%00@%00/",
        "/dashboard/keys/%00/",
        "/dashboard/conversations/%00/",
        "/dashboard/setup/seen/?since=2026-99-99T00:00:00Z",
        "/dashboard/setup/seen/?since=never",
    ],
)
def test_d11_wild_addresses_are_not_there(path: str, as_ada: Client) -> None:
    assert as_ada.get(path).status_code == 404
