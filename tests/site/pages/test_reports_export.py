"""Reports: their lines are the records to the nano, as page and as file, for who may see them."""

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts.models import Member, Team
from usage import chargeback, closing, rollups
from usage.models import UsageRecord

pytestmark = pytest.mark.django_db
_count = iter(range(10**6))


def visitor(member: Member) -> Client:
    client = Client()
    client.force_login(member)
    return client


def used(member: Member, nano: int, team: Team | None = None, **values: Any) -> UsageRecord:
    record = UsageRecord.objects.create(
        **{
            "id": f"x{next(_count)}",
            "started_at": now() - timedelta(minutes=3),
            "outcome": "completed",
            "source": "messages",
            "member_id": member.pk,
            "member": member.username,
            "key_id": member.pk * 10,
            "key": "laptop",
            "account_id": 3,
            "account": "mona-dev",
            "model_used": "claude-opus-5",
            "client": "claude-cli/2.1",
            "team_id": team.pk if team else None,
            "team": team.name if team else "",
            "cost_centre": team.cost_centre if team else "",
            "nano_aiu": nano,
            "cost_source": "exact",
            "input_tokens": 7,
        }
        | values
    )
    rollups.add([record])
    return record


def lines(client: Client, path: str) -> list[dict[str, Any]]:
    answer = client.get(path)
    assert answer.status_code == 200, path
    found = json.loads(answer.content)
    assert isinstance(found, list)
    return found


@pytest.fixture
def team(cleo: Member) -> Team:
    return Team.objects.create(name="octo", cost_centre="4711", lead=cleo)


@pytest.fixture
def week(ada: Member, ben: Member, cleo: Member, team: Team) -> None:
    used(ada, 2**53 + 1)
    used(ben, 3, team, cost_source="estimated", model_used="", model_asked="gpt-5.4")
    used(ben, 5, team, outcome="timeout")
    used(cleo, 0, team, cost_source="none", client="")


@pytest.mark.parametrize("grouping", chargeback.GROUPINGS)
def test_the_lines_sum_up_to_the_records(grouping: str, week: None, ada: Member) -> None:
    found = lines(visitor(ada), f"/dashboard/reports/{grouping}.json?range=24h")
    assert sum(line["nano_aiu"] for line in found) == 2**53 + 9
    assert sum(line["estimated_nano_aiu"] for line in found) == 3
    assert sum(line["requests"] for line in found) == 4
    assert sum(line["failed"] for line in found) == 1
    assert sum(line["input_tokens"] for line in found) == 28


def test_credits_and_dollars_have_every_digit(week: None, ada: Member) -> None:
    found = lines(visitor(ada), "/dashboard/reports/member.json?range=24h")
    assert found[0]["credits"] == "9007199.254740993"
    assert found[0]["usd"] == "90071.99254740993"
    assert next(line for line in found if line["member"] == "ben")["credits"] == "0.000000008"


def test_a_member_exports_only_own_use(week: None, ben: Member, ada: Member) -> None:
    client = visitor(ben)
    for query in ("", f"&member={ada.pk}", "&q=ada"):
        found = lines(client, f"/dashboard/reports/key.json?range=24h{query}")
        assert {line["member"] for line in found} <= {"ben"}
    assert client.get("/dashboard/reports/member.json").status_code == 404
    assert client.get("/dashboard/reports/member/").status_code == 404


def test_a_lead_sees_the_teams_sums_and_no_persons(
    week: None, cleo: Member, ben: Member, team: Team
) -> None:
    client = visitor(cleo)
    found = lines(client, f"/dashboard/reports/model.json?range=24h&team={team.pk}")
    assert sum(line["nano_aiu"] for line in found) == 8
    # No filter turns the sums into one person's.
    for query in (f"member={ben.pk}", f"key={ben.pk * 10}", "q=ben", "account=3"):
        same = lines(client, f"/dashboard/reports/model.json?range=24h&team={team.pk}&{query}")
        assert same == found
    for grouping in ("member", "key", "account"):
        path = f"/dashboard/reports/{grouping}.json?team={team.pk}"
        assert client.get(path).status_code == 404
    page = client.get(f"/dashboard/reports/model/?range=24h&team={team.pk}").content.decode()
    assert "octo" in page
    assert "ben" not in page.partition('id="content"')[2]


def test_a_team_one_does_not_lead_is_not_there(week: None, ben: Member, team: Team) -> None:
    client = visitor(ben)
    for path in ("model/", "model.csv", "model.json"):
        assert client.get(f"/dashboard/reports/{path}?team={team.pk}").status_code == 404
    assert client.get("/dashboard/reports/model/?team=x").status_code == 404
    assert visitor(Member.objects.get(username="ada")).get(
        f"/dashboard/reports/model.json?team={2**70}"
    ).status_code == 404  # fmt: skip


def test_filters_of_the_page_hold_for_the_file(week: None, ada: Member, ben: Member) -> None:
    client = visitor(ada)
    found = lines(
        client, f"/dashboard/reports/model.json?range=24h&member={ben.pk}&outcome=timeout"
    )
    assert [line["nano_aiu"] for line in found] == [5]
    assert lines(client, "/dashboard/reports/model.json?from=2020-01-01&to=2020-01-02") == []


def test_d15_csv_opens_in_a_spreadsheet_and_runs_nothing(ada: Member, ben: Member) -> None:
    for evil in ("=1+1", "+1", "-1", "@x", "\t=1", "＝1"):
        used(ben, 1, client=evil)
    answer = visitor(ada).get("/dashboard/reports/client.csv?range=24h")
    text = answer.content.decode()
    assert text.startswith("\ufeffclient,requests,")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert 'filename="client_' in answer["Content-Disposition"]
    table = list(csv.DictReader(io.StringIO(text[1:], newline="")))
    assert len(table) == 6
    assert all(row["client"].startswith("'") for row in table)
    assert {row["nano_aiu"] for row in table} == {"1"}


def test_the_page_shows_the_months_end(week: None, ada: Member) -> None:
    page = visitor(ada).get("/dashboard/reports/cost_centre/?range=cycle").content.decode()
    assert "Month end" in page
    assert "4711" in page
    assert "Month end" not in visitor(ada).get("/dashboard/reports/?range=24h").content.decode()


def test_an_unknown_grouping_is_not_there(ada: Member) -> None:
    for path in ("nonsense/", "nonsense.csv", "nano_aiu.json"):
        assert visitor(ada).get(f"/dashboard/reports/{path}").status_code == 404


def test_a_month_is_closed_and_signed_off_on_its_page(ada: Member, ben: Member) -> None:
    month = closing.last_month(now())
    start, _end = closing.bounds(month)
    used(ben, 123, started_at=start)
    name = f"{month:%Y-%m}"
    client = visitor(ada)
    assert name in client.get("/dashboard/reports/months/").content.decode()
    client.post("/dashboard/reports/months/close/", {"month": name})
    used(ben, 7, started_at=start, model_used="late-model")
    page = client.get(f"/dashboard/reports/months/{name}/?by=member").content.decode()
    assert "unchanged" in page
    assert "late-model" in page
    client.post(f"/dashboard/reports/months/{name}/sign-off/")
    document = json.loads(client.get(f"/dashboard/reports/months/{name}.json").content)
    assert document["nano_aiu"] == sum(line["nano_aiu"] for line in document["lines"]) == 123
    assert document["signed_off_by"] == "ada"
    assert [line["nano_aiu"] for line in document["after_closing"]] == [7]
    text = client.get(f"/dashboard/reports/months/{name}.csv").content.decode()
    assert text.count("\n") == 2
    again = client.post("/dashboard/reports/months/close/", {"month": name}, follow=True)
    assert "closed already" in again.content.decode()
    this = client.post("/dashboard/reports/months/close/", {"month": f"{now():%Y-%m}"}, follow=True)
    assert "is not over" in this.content.decode()
    assert client.get("/dashboard/reports/months/2020-01/").status_code == 404
    assert client.get("/dashboard/reports/months/x/").status_code == 404
    assert visitor(ben).get(f"/dashboard/reports/months/{name}.json").status_code == 404
