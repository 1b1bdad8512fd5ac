"""Accounts and their states, connecting one, keys and their secret, models, health."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts import keys
from accounts.models import Account, ApiKey, AuditEntry, DeviceLogin, Member
from usage import quota
from usage.models import QuotaSnapshot


def text(answer: Any) -> str:
    return " ".join(str(answer.content.decode()).replace("<bdi>", "").replace("</bdi>", "").split())


def document(**main: Any) -> dict[str, Any]:
    reading = {
        "quota_id": "premium_interactions",
        "entitlement": 7000,
        "remaining": 1329,
        "quota_remaining": 1329.6,
        "percent_remaining": 19.0,
        "unlimited": False,
        "overage_count": 0,
        "overage_permitted": False,
        "token_based_billing": True,
    }
    return {
        "copilot_plan": main.pop("plan", "individual_pro"),
        "token_based_billing": main.get("token_based_billing", True),
        "quota_reset_date_utc": main.pop("reset", "2099-01-01T00:00:00Z"),
        "quota_snapshots": {"premium_interactions": reading | main},
    }


FREE = {
    "copilot_plan": "free",
    "access_type_sku": "free_limited_copilot",
    "monthly_quotas": {"chat": 50, "completions": 2000},
    "limited_user_quotas": {"chat": 12, "completions": 1540},
    "limited_user_reset_date": "2099-01-09",
}


@pytest.mark.parametrize(
    ("said", "shown", "hidden"),
    [
        (document(), [">5,670.4<", ">7,000<", ">1,329.6<", "credits", "resets"], ["extra use"]),
        (
            document(plan="business", entitlement=0, remaining=0, quota_remaining=0,
                     unlimited=True, credits_used=169.8),
            ["169.8", "credits used through this seat", "shared pool"],
            ['class="meter"'],
        ),
        (document(unlimited=True, entitlement=-1), ["unlimited"], ['class="meter"']),
        (
            document(remaining=-38, quota_remaining=-38.2, overage_count=38.2,
                     overage_permitted=True, overage_entitlement=500),
            [">38.2<", "over", "extra use allowed up to 500"],
            [],
        ),
        (
            document(remaining=-38, quota_remaining=-38.2, overage_count=38.2),
            [">38.2<", "extra use not allowed"],
            [],
        ),
        (FREE, ["Chat: 12 of 50 left", "Completions: 1,540 of 2,000 left", "resets"], []),
        (document(token_based_billing=False), ["requests ·"], [" credits ·"]),
        (document(reset=""), ["reset unknown"], []),
    ],
)  # fmt: skip
def test_each_state_of_a_quota_is_said(
    said: dict[str, Any], shown: list[str], hidden: list[str], world: Any, as_ben: Client
) -> None:
    quota.store(world.account, said)

    body = text(as_ben.get("/dashboard/accounts/"))

    for words in shown:
        plain = body.replace("<bdi title", "<x title")
        assert words.strip("<>") in plain
    for words in hidden:
        assert words not in body


def test_five_hour_and_weekly_limits_have_their_own_meters(world: Any, as_ben: Client) -> None:
    quota.store(world.account, document())
    for quota_id in ("session", "weekly"):
        QuotaSnapshot.objects.create(
            account_id=world.account.pk,
            quota_id=quota_id,
            percent_remaining=3,
            source="header",
            reset_at=now() + timedelta(hours=2),
        )

    body = text(as_ben.get("/dashboard/accounts/"))

    assert "five-hour limit" in body
    assert "weekly limit" in body
    assert body.count('class="meter"') == 3


@pytest.mark.parametrize(
    ("state", "words", "action"),
    [
        ("needs_sign_in", "signed out", "Sign in again"),
        ("no_seat", "The Copilot seat is gone.", "Sign in again"),
        ("frozen", "Frozen: GitHub", "Unfreeze"),
        ("paused", "it serves no requests", "Resume"),
        ("cooling_down", "cooling down", "Poll quota now"),
        ("active", "active", "Pause"),
    ],
)
def test_each_state_of_an_account_has_the_action_that_helps(
    state: str, words: str, action: str, world: Any, as_ada: Client
) -> None:
    Account.objects.update(state=state, cooldown_until=now() + timedelta(minutes=5))

    body = text(as_ada.get("/dashboard/accounts/"))

    assert words in body
    assert action in body


def test_trouble_comes_first_and_onto_the_top_of_every_page(world: Any, as_ada: Client) -> None:
    Account.objects.create(login="zoe-frozen", state="frozen")

    answer = as_ada.get("/dashboard/accounts/")

    assert [card.account.login for card in answer.context["cards"]] == ["zoe-frozen", "mona-dev"]
    assert "zoe-frozen is frozen" in text(as_ada.get("/dashboard/keys/"))


def test_a_fact_older_than_three_periods_turns_amber(world: Any, as_ben: Client) -> None:
    quota.store(world.account, document())
    Account.objects.update(quota_polled_at=now() - timedelta(minutes=16))

    assert '<span class="warn-text">checked' in text(as_ben.get("/dashboard/accounts/"))


def test_secrets_of_an_account_are_on_no_page(world: Any, as_ada: Client) -> None:
    from accounts.encryption import Secret

    Account.objects.update(github_token=Secret.of("ghu_very_secret"))

    for path in ("/dashboard/accounts/", "/dashboard/accounts/mona-dev/", "/dashboard/health/"):
        assert "ghu_very_secret" not in text(as_ada.get(path))


def test_without_any_account_every_page_says_so(ada: Member, as_ada: Client) -> None:
    body = text(as_ada.get("/dashboard/keys/"))

    assert "No GitHub account is connected" in body
    assert "Connect an account" in body


# Connecting.


def test_a_running_sign_in_shows_code_and_qr_and_survives_a_reload(
    world: Any, as_ben: Client
) -> None:
    body = text(as_ben.get("/dashboard/accounts/connect/", follow=True))

    assert "WDJB-MJHT" in body
    assert "https://github.com/login/device" in body
    assert "data-until" in body
    assert "qrline" in body
    assert "every 3s" in body


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("checking", "The seat is being checked"),
        ("connected", "mona-dev is connected."),
        ("denied", "denied on GitHub"),
        ("expired", "not entered in time"),
        ("no_seat", "no Copilot seat"),
        ("failed", "did not succeed"),
        ("cancelled", "was cancelled"),
    ],
)
def test_each_end_of_a_sign_in_is_said(state: str, words: str, world: Any, as_ben: Client) -> None:
    DeviceLogin.objects.update(state=state, message="GitHub's own words.", account=world.account)

    body = text(as_ben.get(f"/dashboard/accounts/connect/{UUID(int=7)}/"))

    assert words in body
    is_over = state != "checking"
    assert ("every 3s" not in body) is is_over
    assert "WDJB-MJHT" not in body


@pytest.mark.django_db(transaction=True)
def test_when_github_is_away_the_page_says_so(settings: Any, ben: Member, as_ben: Client) -> None:
    settings.GITHUB_URL = settings.GITHUB_API_URL = "http://127.0.0.1:9"

    answer = as_ben.post(
        "/dashboard/accounts/connect/", {"account_type": "business", "host": "github.com"}
    )

    assert answer.status_code == 502
    assert 'class="note bad"' in text(answer)
    assert DeviceLogin.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_host_that_is_not_githubs_is_refused(ben: Member, as_ben: Client) -> None:
    answer = as_ben.post(
        "/dashboard/accounts/connect/", {"account_type": "business", "host": "evil.example"}
    )

    assert answer.status_code == 502
    assert "is not a GitHub host" in text(answer)


# Keys.


def new_key_form(client: Client) -> dict[str, Any]:
    form = client.get("/dashboard/keys/new/").context["form"]
    return {"form_id": str(form["form_id"].value()), "name": "laptop"}


def test_a_new_key_is_shown_once_with_snippets(ben: Member, as_ben: Client) -> None:
    form = new_key_form(as_ben) | {
        "budget_day": "2.5",
        "requests_per_minute": "60",
        "models_allowed": "gpt-5.5, claude-sonnet-5, gpt-5.5",
    }
    body = text(as_ben.post("/dashboard/keys/new/", form))
    key = ApiKey.objects.get()
    secret = body[body.index('id="secret">') + 12 :].split("<")[0]

    assert keys.digest_of(secret) == bytes(key.digest)
    assert (key.owner, key.budget_day_nano_aiu, key.requests_per_minute) == (ben, 2_500_000_000, 60)
    assert key.models_allowed == ["gpt-5.5", "claude-sonnet-5"]
    for client in ("Claude Code", "Codex", "Gemini CLI", "OpenAI SDK", "Anthropic SDK",
                   "opencode", "Cline", "Continue", "Zed", "curl"):  # fmt: skip
        assert f">{client}</label>" in body
    assert "http://testserver" in body
    assert secret not in text(as_ben.get(f"/dashboard/keys/{key.prefix}/"))
    assert "YOUR_KEY" in text(as_ben.get(f"/dashboard/keys/{key.prefix}/"))


def test_the_same_form_makes_one_key(ben: Member, as_ben: Client) -> None:
    form = new_key_form(as_ben)

    as_ben.post("/dashboard/keys/new/", form)
    again = as_ben.post("/dashboard/keys/new/", form)

    assert again.status_code == 302
    assert ApiKey.objects.count() == 1


def test_d08_a_member_cannot_make_keys_of_others_or_administrators_keys(
    world: Any, ada: Member, cleo: Member, as_cleo: Client
) -> None:
    extra = {"owner": ada.pk, "is_admin": "on"}

    as_cleo.post("/dashboard/keys/new/", new_key_form(as_cleo) | extra)
    refused = as_cleo.post(
        "/dashboard/keys/new/", new_key_form(as_cleo) | {"account": world.account.pk}
    )

    made = ApiKey.objects.get(owner=cleo)
    assert not made.is_admin
    assert refused.status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"budget_day": "-1"},
        {"budget_month": "nan"},
        {"budget_day": "inf"},
        {"requests_per_minute": "1e9"},
        {"expires": "2001-01-01"},
        {"expires": "9999-12-31"},
        {"form_id": "x"},
    ],
)
def test_a_key_with_wrong_limits_is_not_made(
    wrong: dict[str, str], ben: Member, as_ben: Client
) -> None:
    answer = as_ben.post("/dashboard/keys/new/", new_key_form(as_ben) | wrong)

    assert answer.status_code == 400
    assert not ApiKey.objects.exists()


def test_revoking_asks_for_the_name_and_acts(world: Any, as_ben: Client) -> None:
    path = f"/dashboard/keys/{world.key.prefix}/revoke/"

    wrong = as_ben.post(path, {"name": "phone"})
    world.key.refresh_from_db()
    assert wrong.status_code == 400
    assert world.key.revoked_at is None

    as_ben.post(path, {"name": "laptop"})
    world.key.refresh_from_db()
    assert world.key.revoked_at is not None
    assert keys.ring.value.entries[keys.digest_of(world.secret)].refusal == "revoked"
    assert AuditEntry.objects.filter(action="key.revoked", actor="ben").exists()
    assert "revoked" in text(as_ben.get("/dashboard/keys/"))


def test_set_up_hears_the_first_request(world: Any, as_ben: Client, as_cleo: Client) -> None:
    before = (now() - timedelta(hours=1)).isoformat().replace("+", "%2B")
    after = now().isoformat().replace("+", "%2B")

    heard = text(as_ben.get(f"/dashboard/setup/seen/?since={before}"))
    assert "first request from" in heard
    assert "claude-cli/2.1.328" in heard
    assert "every 3s" not in heard
    assert "Listening" in text(as_ben.get(f"/dashboard/setup/seen/?since={after}"))
    assert "Listening" in text(as_cleo.get(f"/dashboard/setup/seen/?since={before}"))


# Models.


def test_models_show_limits_prices_and_aliases(world: Any, as_ben: Client) -> None:
    body = text(as_ben.get("/dashboard/models/"))

    assert "claude-sonnet-5" in body
    assert "2.00" in body
    assert "0.20" in body
    assert "10.00" in body
    assert "/v1/messages" in body
    assert "sonnet" in body


def test_members_are_not_shown_the_models_of_other_members_accounts(
    world: Any, as_cleo: Client
) -> None:
    assert "No model list yet" in text(as_cleo.get("/dashboard/models/"))


# Health.


def test_health_names_what_is_wrong(world: Any, as_ada: Client) -> None:
    Account.objects.update(state="needs_sign_in", quota_error="GitHub did not answer.")

    body = text(as_ada.get("/dashboard/health/"))

    assert "Database" in body
    assert "needs sign-in" in body
    assert "GitHub did not answer." in body
