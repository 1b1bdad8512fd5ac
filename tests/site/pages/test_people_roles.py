"""What an administrator does with people: roles, limits, raises, teams, disabling; and a team's lead."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts import auth, keys
from accounts.models import AuditEntry, BudgetRaise, Member, Role, Team
from usage.models import UsageRecord

PASSWORD = "correct horse battery staple"
LIMITS = {
    "budget_day": "2.5",
    "budget_week": "",
    "budget_month": "100",
    "budget_warn_percent": "75",
    "budget_is_hard": "on",
    "requests_per_minute": "60",
    "tokens_per_minute": "",
    "concurrency": "3",
    "max_context_tokens": "200000",
    "max_output_tokens": "",
    "max_effort": "high",
    "models_allowed": "gpt-5*, claude-sonnet-5",
    "models_denied": "claude-opus*",
    "office_hours": "Mon-Fri 08:00-19:00 Europe/Berlin",
}
BEN = "/dashboard/members/ben/"


def test_a_disabled_member_has_no_key_and_no_session_at_once(
    world: Any, as_ada: Client, as_ben: Client, settings: Any
) -> None:
    settings.REQUIRE_KEYS = True

    as_ada.post(f"{BEN}disable/")

    assert as_ben.get("/dashboard/").status_code == 302
    world.key.refresh_from_db()
    assert world.key.revoked_at is not None
    with pytest.raises(auth.Refused):
        auth.authenticate({"x-api-key": world.secret}, None, allow_query=False, loopback=True)
    entry = AuditEntry.objects.get(action="member.disabled")
    assert (entry.actor, entry.target) == ("ada", "ben")


def test_a_member_let_in_again_needs_new_keys(world: Any, as_ada: Client, client: Client) -> None:
    as_ada.post(f"{BEN}disable/")
    as_ada.post(f"{BEN}enable/")

    answer = client.post("/dashboard/sign-in/", {"username": "ben", "password": PASSWORD})
    assert answer.status_code == 302
    world.key.refresh_from_db()
    assert world.key.revoked_at is not None


@pytest.mark.parametrize(
    ("action", "role"), [("make-admin", Role.ADMIN), ("make-auditor", Role.AUDITOR)]
)
def test_roles_are_given_and_taken(
    action: str, role: Role, ben: Member, as_ada: Client, as_ben: Client
) -> None:
    as_ada.post(f"{BEN}{action}/")
    ben.refresh_from_db()
    assert ben.role == role
    assert as_ben.get("/dashboard/members/").status_code == 200

    as_ada.post(f"{BEN}make-member/")

    ben.refresh_from_db()
    assert (ben.role, ben.is_staff) == (Role.MEMBER, False)
    assert as_ben.get("/dashboard/members/").status_code == 404
    assert AuditEntry.objects.filter(action="member.role_changed", actor="ada").count() == 2


def test_the_last_administrator_stays(ada: Member, as_ada: Client) -> None:
    body = as_ada.post("/dashboard/members/ada/make-member/", follow=True).content.decode()

    assert "last administrator" in body
    as_ada.post("/dashboard/members/ada/disable/")
    ada.refresh_from_db()
    assert ada.role == Role.ADMIN
    assert ada.is_active


def test_an_inactive_administrator_does_not_count_as_one(ada: Member, as_ada: Client) -> None:
    Member.objects.create_superuser("gone", is_active=False)

    as_ada.post("/dashboard/members/ada/make-auditor/")

    ada.refresh_from_db()
    assert ada.role == Role.ADMIN


@pytest.mark.django_db(transaction=True)
def test_two_administrators_who_demote_each_other_at_once_leave_one() -> None:
    import threading

    from django.db import connection

    from accounts import roles

    pair = [Member.objects.create_superuser(name) for name in ("ada", "grace")]
    gate = threading.Barrier(2)
    refused: list[str] = []

    def demote(actor: Member, other: Member) -> None:
        gate.wait(timeout=5)
        try:
            roles.set_role(other, Role.MEMBER, actor=actor)
        except roles.LastAdministrator:
            refused.append(other.username)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=demote, args=order) for order in (tuple(pair), tuple(pair[::-1]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)

    assert len(refused) == 1
    assert Member.objects.filter(is_superuser=True).count() == 1


def test_signing_out_everywhere_ends_every_session(ben: Member, as_ada: Client) -> None:
    first, second = Client(), Client()
    for each in (first, second):
        each.force_login(ben)

    as_ada.post(f"{BEN}sign-out/")

    assert first.get("/dashboard/").status_code == 302
    assert second.get("/dashboard/").status_code == 302
    assert as_ada.get("/dashboard/").status_code == 200


def test_a_link_for_a_member_signs_that_one_in_once(ben: Member, as_ada: Client) -> None:
    import re

    body = as_ada.post(f"{BEN}link/").content.decode()
    found = re.search(r"http://testserver(/dashboard/\?signin=[\w-]+)", body)
    assert found

    visitor = Client()
    visitor.get(found[1])

    assert "ben" in visitor.get("/dashboard/me/").content.decode()
    assert AuditEntry.objects.filter(action="member.link_made", actor="ada").exists()
    assert Client().get(found[1])["Location"].endswith("link=ended")


def test_limits_are_set_in_credits_and_words(ben: Member, as_ada: Client) -> None:
    assert as_ada.post(BEN, LIMITS).status_code == 302

    ben.refresh_from_db()
    assert ben.budget_day_nano_aiu == 2_500_000_000
    assert ben.budget_month_nano_aiu == 100_000_000_000
    assert (ben.budget_week_nano_aiu, ben.budget_warn_percent) == (0, 75)
    assert ben.budget_is_hard
    assert (ben.requests_per_minute, ben.concurrency, ben.max_effort) == (60, 3, "high")
    assert ben.models_allowed == ["gpt-5*", "claude-sonnet-5"]
    assert ben.models_denied == ["claude-opus*"]
    assert ben.office_hours == "Mon-Fri 08:00-19:00 Europe/Berlin"
    detail = AuditEntry.objects.get(action="member.limits_changed").detail
    assert detail["concurrency"] == [0, 3]
    body = as_ada.get(BEN).content.decode()
    assert 'value="2.5"' in body
    assert "gpt-5*, claude-sonnet-5" in body


def test_limits_sent_again_change_and_note_nothing(ben: Member, as_ada: Client) -> None:
    as_ada.post(BEN, LIMITS)
    as_ada.post(BEN, LIMITS)

    assert AuditEntry.objects.filter(action="member.limits_changed").count() == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("office_hours", "whenever"),
        ("office_hours", "Mon-Fri 08:00-19:00 Mars/Phobos"),
        ("budget_day", "-1"),
        ("budget_day", "1e30"),
        ("budget_day", "nan"),
        ("concurrency", "99999999999999"),
        ("max_effort", "enormous"),
        ("budget_warn_percent", "0"),
    ],
)
def test_limits_that_are_none_are_refused(
    name: str, value: str, ben: Member, as_ada: Client
) -> None:
    assert as_ada.post(BEN, LIMITS | {name: value}).status_code == 400

    ben.refresh_from_db()
    assert (ben.concurrency, ben.budget_day_nano_aiu) == (0, 0)


def test_a_budget_is_raised_with_a_reason_until_a_day_and_ended(
    ben: Member, as_ada: Client
) -> None:
    last = now() + timedelta(days=3)
    given = {"period": "week", "extra": "12.5", "reason": "release", "last_day": f"{last:%Y-%m-%d}"}

    as_ada.post(f"{BEN}raise/", given)

    raised = BudgetRaise.objects.get()
    assert (raised.member, raised.extra_nano_aiu, raised.granted_by) == (
        ben,
        12_500_000_000,
        "ada",
    )
    assert last < raised.ends_at < last + timedelta(days=2)
    assert "release" in as_ada.get(BEN).content.decode()
    as_ada.post(f"/dashboard/raises/{raised.pk}/end/")
    raised.refresh_from_db()
    assert raised.ends_at <= now()
    said = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"budget.raised", "budget.raise_ended"} <= said


@pytest.mark.parametrize(
    "wrong",
    [{"reason": ""}, {"extra": "-3"}, {"last_day": "2020-01-01"}, {"last_day": "9999-12-31"}],
)
def test_a_raise_without_reason_end_or_amount_is_refused(
    wrong: dict[str, str], ben: Member, as_ada: Client
) -> None:
    day = f"{now() + timedelta(days=3):%Y-%m-%d}"
    given = {"period": "day", "extra": "1", "reason": "x", "last_day": day} | wrong

    assert as_ada.post(f"{BEN}raise/", given).status_code == 400
    assert not BudgetRaise.objects.exists()


def test_a_team_is_made_limited_and_deleted(ada: Member, ben: Member, as_ada: Client) -> None:
    as_ada.post("/dashboard/teams/", {"name": "Core", "cost_centre": "4711", "lead": ben.pk})
    team = Team.objects.get()
    assert (team.name, team.cost_centre, team.lead) == ("Core", "4711", ben)
    facts = {"name": "Core", "cost_centre": "4712", "lead": "", "pool": ""}

    as_ada.post(f"/dashboard/teams/{team.pk}/", LIMITS | facts)
    as_ada.post(f"{BEN}team/", {"team": team.pk})

    team.refresh_from_db()
    ben.refresh_from_db()
    assert (team.cost_centre, team.lead, team.budget_month_nano_aiu) == (
        "4712",
        None,
        100_000_000_000,
    )
    assert ben.team == team
    as_ada.post(f"/dashboard/teams/{team.pk}/delete/")
    ben.refresh_from_db()
    assert ben.team is None
    said = set(AuditEntry.objects.filter(actor="ada").values_list("action", flat=True))
    assert {"team.made", "team.changed", "member.team_changed", "team.deleted"} <= said


def test_two_teams_do_not_share_a_name(as_ada: Client) -> None:
    Team.objects.create(name="Core")

    assert as_ada.post("/dashboard/teams/", {"name": "core"}).status_code == 400


def test_a_lead_sees_the_sums_of_the_team_and_no_request(
    world: Any,
    ada: Member,
    ben: Member,
    cleo: Member,
    as_cleo: Client,
    make_record: Callable[..., UsageRecord],
) -> None:
    Team.objects.filter(pk=world.team.pk).update(lead=cleo)
    Member.objects.filter(pk=ben.pk).update(team=world.team)
    make_record(0, ben, world.key, id="f" * 24, team_id=world.team.pk, nano_aiu=7_120_000_000)

    body = as_cleo.get(f"/dashboard/teams/{world.team.pk}/").content.decode()

    assert "7.12" in body
    assert "Ben" in body
    inside = body.partition('id="content"')[2].partition("</main>")[0]
    assert 'method="post"' not in inside
    assert "/dashboard/members/" not in inside
    assert "/dashboard/requests/" not in inside
    assert "Core" in as_cleo.get("/dashboard/").content.decode()
    limits = LIMITS | {"name": "Mine", "cost_centre": ""}
    assert as_cleo.post(f"/dashboard/teams/{world.team.pk}/", limits).status_code == 404
    assert as_cleo.get(f"/dashboard/requests/{world.exchange.id}/").status_code == 404
    assert as_cleo.get("/dashboard/teams/").status_code == 404


def test_the_page_of_members_says_who_spent_what_of_which_budget(
    world: Any, ben: Member, as_ada: Client
) -> None:
    Member.objects.filter(pk=ben.pk).update(
        team=world.team, budget_month_nano_aiu=8_240_000_000, first_name='"><b>Ben'
    )

    body = as_ada.get("/dashboard/members/").content.decode()

    assert "4.12 of 8.24 this month" in body
    assert "mona-dev" in body
    assert "Core" in body
    assert "<b>Ben" not in body
    assert "new@example.org" in body


def test_the_page_of_members_costs_the_same_for_many(
    world: Any, as_ada: Client, django_assert_max_num_queries: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    as_ada.get("/dashboard/members/")
    with CaptureQueriesContext(
        connection,
    ) as few:
        as_ada.get("/dashboard/members/")
    for number in range(30):
        member = Member.objects.create_user(f"member-{number}", team=world.team)
        keys.create("laptop", member)

    with django_assert_max_num_queries(len(few)):
        as_ada.get("/dashboard/members/")


def test_members_are_found_by_name_and_team(world: Any, cleo: Member, as_ada: Client) -> None:
    found = as_ada.get("/dashboard/members/?q=cleo").content.decode()
    none = as_ada.get("/dashboard/members/?q=%22%3E%3Cscript%3E").content.decode()

    assert "/dashboard/members/cleo/" in found
    assert "/dashboard/members/ben/" not in found
    assert "Nobody fits" in none
    assert "<script>" not in none


def test_a_member_sees_and_ends_own_sessions_only(ben: Member, ada: Member) -> None:
    here, there, of_ada = Client(HTTP_USER_AGENT="Here"), Client(), Client()
    for client, name in ((here, "ben"), (there, "ben"), (of_ada, "ada")):
        client.post("/dashboard/sign-in/", {"username": name, "password": PASSWORD})
    body = here.get("/dashboard/me/").content.decode()
    assert "Here" in body
    assert here.session.session_key not in body
    import re

    names = re.findall(r'name="session" value="([0-9a-f]{32})"', body)
    assert len(names) == 1
    asked = here.post("/dashboard/me/sessions/end/", {"session": names[0]})
    assert asked["Location"].startswith("/dashboard/sso/confirm/")
    assert there.get("/dashboard/").status_code == 200
    # Once more the password; then it is done without another press.
    here.post(asked["Location"], {"password": PASSWORD})

    assert there.get("/dashboard/").status_code == 302
    assert of_ada.get("/dashboard/").status_code == 200
    assert here.get("/dashboard/").status_code == 200


def test_the_chosen_language_comes_before_the_browsers(ben: Member, as_ben: Client) -> None:
    as_ben.post("/dashboard/me/language/", {"language": "ar"})

    answer = as_ben.get("/dashboard/", headers={"Accept-Language": "en"})

    assert 'lang="ar" dir="rtl"' in answer.content.decode()
    assert as_ben.post("/dashboard/me/language/", {"language": "tlh"}).status_code == 404
    as_ben.post("/dashboard/me/language/", {"language": ""})
    answer = as_ben.get("/dashboard/", headers={"Accept-Language": "en"})
    assert 'lang="en"' in answer.content.decode()


def test_groups_are_mapped_once_and_removed(as_ada: Client) -> None:
    given = {"group": "GitHub:Octo-Org", "role": "auditor", "team": ""}
    assert as_ada.post("/dashboard/groups/", given).status_code == 302
    assert as_ada.post("/dashboard/groups/", given).status_code == 400

    from accounts.models import GroupMapping

    mapping = GroupMapping.objects.get()
    assert (mapping.group, mapping.role) == ("github:octo-org", "auditor")
    as_ada.post(f"/dashboard/groups/{mapping.pk}/remove/")
    assert not GroupMapping.objects.exists()


def test_an_auditor_may_look_into_the_admin_and_change_nothing(
    world: Any, ben: Member, as_aud: Client
) -> None:
    assert as_aud.get("/admin/accounts/member/").status_code == 200
    assert as_aud.get(f"/admin/accounts/member/{ben.pk}/change/").status_code == 200
    assert as_aud.get("/admin/accounts/member/add/").status_code == 403
    act = {"action": "make_administrator", "_selected_action": [str(ben.pk)]}
    as_aud.post("/admin/accounts/member/", act)
    as_aud.post(f"/admin/accounts/member/{ben.pk}/change/", {"username": "root"})

    ben.refresh_from_db()
    assert (ben.role, ben.username) == (Role.MEMBER, "ben")
