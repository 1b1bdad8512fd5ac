"""The approvals page and its rules: what is shown to whom, who decides, what is written down."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts.models import AuditEntry
from proxy import approval, approval_rules
from proxy.models import Approval, ApprovalRule


def text(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return re.sub(r"\s+", " ", answer.content.decode())


@pytest.fixture
def waiting(world: Any) -> Approval:
    return Approval.objects.create(
        id="a1" * 12,
        expires_at=now() + timedelta(minutes=2),
        seen_at=now(),
        holder=approval.PROCESS,
        member_id=world.key.owner_id,
        member="ben",
        key_id=world.key.pk,
        key="laptop",
        client="codex",
        model="claude-sonnet-5",
        path="/v1/responses",
        conversation="c1",
        input_tokens=88_100,
        estimated_nano_aiu=21_400_000_000,
        tools=31,
        rule="more than 20 credits",
    )


@pytest.fixture
def path(waiting: Approval) -> str:
    return f"/dashboard/approvals/{waiting.pk}/"


def test_what_waits_is_shown_with_its_cost_and_counted(
    waiting: Approval, as_ada: Client, as_ben: Client
) -> None:
    body = text(as_ada.get("/dashboard/approvals/"))

    assert "1 waiting" in body
    assert "31 tools" in body
    assert ">21.4<" in body
    assert "more than 20 credits" in body
    assert "1 request waits for approval." in text(as_ada.get("/dashboard/"))
    assert "waits for approval" not in text(as_ben.get("/dashboard/"))
    assert re.search(r'class="count">1<', text(as_ada.get("/dashboard/requests/")))


@pytest.mark.parametrize(("decision", "approved"), [("approve", True), ("refuse", False)])
def test_the_first_decision_wins_and_is_audited(
    decision: str, approved: bool, waiting: Approval, path: str, as_ada: Client
) -> None:
    as_ada.post(path, {"decision": decision, "scope": "conversation"})
    late = as_ada.post(path, {"decision": "approve"}, follow=True)

    assert "decided by somebody else" in text(late)
    waiting.refresh_from_db()
    assert waiting.state == ("approved" if approved else "refused")
    assert waiting.decided_by == "ada"
    assert (waiting.settles_until is not None) == approved
    entry = AuditEntry.objects.get(action__startswith="approval.")
    assert entry.action == ("approval.approved" if approved else "approval.refused")
    assert entry.actor == "ada"
    assert entry.address == "127.0.0.1"
    assert entry.detail["scope"] == ("conversation" if approved else "once")


def test_the_late_one_is_told_by_whom_it_was_decided(
    waiting: Approval, path: str, as_ada: Client
) -> None:
    approval.decide(waiting.pk, approve=True, actor="mona")

    late = text(as_ada.post(path, {"decision": "refuse"}, headers={"HX-Request": "true"}))

    assert re.search(r"approved by mona, .*(now|ago)", late)
    waiting.refresh_from_db()
    assert waiting.state == "approved"


def test_an_unknown_scope_approves_this_one_only(
    waiting: Approval, path: str, as_ada: Client
) -> None:
    as_ada.post(path, {"decision": "approve", "scope": "for ever"})

    waiting.refresh_from_db()
    assert (waiting.scope, waiting.settles_until) == ("once", None)


def test_what_is_out_of_time_cannot_be_approved(
    waiting: Approval, path: str, as_ada: Client
) -> None:
    Approval.objects.update(expires_at=now() - timedelta(seconds=1))

    late = as_ada.post(path, {"decision": "approve"}, follow=True)

    assert "its time was up" in text(late)
    waiting.refresh_from_db()
    assert waiting.state == "waiting"


def test_an_auditor_sees_the_queue_and_decides_nothing(
    waiting: Approval, path: str, as_aud: Client, as_ben: Client
) -> None:
    body = text(as_aud.get("/dashboard/approvals/"))

    assert "more than 20 credits" in body
    assert 'value="approve"' not in body
    assert as_aud.post(path, {"decision": "approve"}).status_code in (403, 404)
    assert as_ben.post(path, {"decision": "approve"}).status_code == 404
    waiting.refresh_from_db()
    assert waiting.state == "waiting"


def test_what_a_silent_process_held_is_swept_and_what_lives_is_not(waiting: Approval) -> None:
    assert approval.sweep() == 0

    Approval.objects.update(seen_at=now() - timedelta(minutes=1))
    assert approval.sweep() == 1
    waiting.refresh_from_db()
    assert waiting.state == "lost"
    assert AuditEntry.objects.get(action="approval.lost").actor == "gateway"


def test_the_only_process_finds_what_an_earlier_one_left(waiting: Approval) -> None:
    assert approval.sweep(only_process=approval.PROCESS) == 0
    assert approval.sweep(only_process="another") == 1


def test_no_more_than_two_hundred_wait_in_all_processes(world: Any) -> None:
    def row(number: int) -> Approval:
        expires_at = now() + timedelta(minutes=2)
        return Approval(id=f"{number:024x}", expires_at=expires_at, rule="x", holder="another")

    Approval.objects.bulk_create(row(number) for number in range(200))

    assert approval.open_row(row(201)) == "full"
    assert Approval.objects.count() == 200


def test_listeners_hear_of_each_request_that_begins_to_wait(world: Any) -> None:
    heard: list[Approval] = []
    approval.LISTENERS.append(heard.append)
    try:
        one = Approval(id="b" * 24, expires_at=now() + timedelta(minutes=2), rule="x")
        assert approval.open_row(one) == "waiting"
    finally:
        approval.LISTENERS.remove(heard.append)
    assert [row.pk for row in heard] == ["b" * 24]


# Rules.

FORM = {
    "name": "more than 20 credits",
    "is_enabled": "on",
    "models": "claude-opus*, gpt-5.5",
    "above_credits": "20.5",
    "above_tokens": "100000",
    "younger_than_h": "24",
    "outside_hours": "Mon-Fri 08:00-19:00 Europe/Berlin",
}


def test_a_rule_is_made_changed_and_deleted_and_each_is_audited(world: Any, as_ada: Client) -> None:
    as_ada.post("/dashboard/approvals/rules/new/", FORM | {"team": world.team.pk})
    row = ApprovalRule.objects.get(name="more than 20 credits")
    assert row.for_models == ["claude-opus*", "gpt-5.5"]
    assert row.above_nano_aiu == 20_500_000_000
    assert row.above_context_tokens == 100_000
    assert row.key_younger_than_h == 24
    assert row.team == world.team
    assert row.name in {rule.name for rule in approval_rules.rules.value}
    listed = text(as_ada.get("/dashboard/approvals/rules/"))
    assert "claude-opus*, gpt-5.5" in listed
    assert ">20.5<" in listed

    path = f"/dashboard/approvals/rules/{row.pk}/"
    assert 'value="20.5"' in text(as_ada.get(path))
    as_ada.post(path, {**FORM, "above_credits": "", "is_enabled": ""})
    row.refresh_from_db()
    assert (row.above_nano_aiu, row.is_enabled) == (0, False)
    assert row.name not in {rule.name for rule in approval_rules.rules.value}

    as_ada.post(f"{path}delete/")
    assert not ApprovalRule.objects.filter(pk=row.pk).exists()
    actions = AuditEntry.objects.filter(target=row.name).order_by("pk")
    assert [entry.action for entry in actions] == [
        "approval_rule.created",
        "approval_rule.changed",
        "approval_rule.deleted",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("name", "dear ones"), ("outside_hours", "at night"), ("above_credits", "-1")],
)
def test_a_rule_that_cannot_be_is_refused_with_the_reason_at_its_field(
    field: str, value: str, world: Any, as_ada: Client
) -> None:
    answer = as_ada.post("/dashboard/approvals/rules/new/", {**FORM, field: value})

    assert answer.status_code == 400
    assert ApprovalRule.objects.count() == 1
    assert 'class="error"' in answer.content.decode()


def test_an_auditor_reads_the_rules(world: Any, as_aud: Client) -> None:
    body = text(as_aud.get("/dashboard/approvals/rules/"))

    assert "dear ones" in body
    assert "New rule" not in body
