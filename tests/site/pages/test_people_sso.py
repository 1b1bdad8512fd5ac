"""Signing in at an OIDC provider or GitHub: who comes in, as what, and who has left."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from allauth.socialaccount.models import SocialAccount
from django.http import HttpResponse
from django.test import Client

from accounts import auth, invites, keys
from accounts.models import AuditEntry, GroupMapping, Member, Role, Team
from tests.site.pages import identity_provider as provider_module

SIGN_IN = "/dashboard/sso/oidc/login/"
DORA = {
    "sub": "dora-1",
    "preferred_username": "dora",
    "email": "dora@corp.example",
    "email_verified": True,
    "given_name": "Dora",
    "groups": ["engineers"],
}


@pytest.fixture
def provider(settings: Any) -> Iterator[Any]:
    running = provider_module.Provider()
    app = {
        "provider_id": "oidc",
        "name": "Corp",
        "client_id": provider_module.CLIENT_ID,
        "secret": provider_module.CLIENT_SECRET,
        "settings": {"server_url": running.url},
    }
    settings.SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}
    }
    running.person = dict(DORA)
    yield running
    running.close()


@pytest.fixture
def team() -> Team:
    made = Team.objects.create(name="Core")
    GroupMapping.objects.create(group="engineers", team=made)
    GroupMapping.objects.create(group="platform-admins", role=Role.ADMIN)
    GroupMapping.objects.create(group="revision", role=Role.AUDITOR)
    return made


def sign_in(client: Client, path: str = SIGN_IN) -> HttpResponse:
    """From our button to the provider, over its socket, and back to our door."""
    away = client.get(path)
    assert away.status_code == 302, away.content
    back = requests.get(away["Location"], allow_redirects=False, timeout=5)
    return client.get(back.headers["Location"].replace("http://testserver", ""))  # type: ignore[return-value]


def test_a_person_of_a_mapped_group_becomes_a_member_of_its_team(
    provider: Any, team: Team, client: Client
) -> None:
    answer = sign_in(client)

    assert answer.status_code == 302, answer.content
    dora = Member.objects.get(username="dora")
    assert (dora.team, dora.role, dora.is_managed) == (team, Role.MEMBER, True)
    assert (dora.email, dora.first_name) == ("dora@corp.example", "Dora")
    assert not dora.has_usable_password()
    assert client.get("/dashboard/").status_code == 200
    said = AuditEntry.objects.filter(actor="dora").values_list("action", flat=True)
    assert {"member.joined", "member.signed_in"} <= set(said)


def test_somebody_unknown_without_group_or_invite_is_refused(
    provider: Any, team: Team, client: Client
) -> None:
    provider.person["groups"] = ["sales"]

    answer = sign_in(client)

    assert answer.status_code == 403
    assert "not a member here" in answer.content.decode()
    assert not Member.objects.filter(username="dora").exists()
    assert client.get("/dashboard/").status_code == 302
    assert AuditEntry.objects.filter(action="member.refused", target="dora").exists()


def test_without_any_mapping_the_provider_alone_lets_nobody_in(
    provider: Any, client: Client
) -> None:
    assert sign_in(client).status_code == 403
    assert not Member.objects.exists()


def test_who_is_in_no_group_any_more_loses_keys_and_sessions_at_the_next_sign_in(
    provider: Any, team: Team, client: Client, settings: Any
) -> None:
    settings.REQUIRE_KEYS = True
    sign_in(client)
    dora = Member.objects.get(username="dora")
    key, secret = keys.create("laptop", dora)
    elsewhere = Client()
    sign_in(elsewhere)
    provider.person["groups"] = []

    answer = sign_in(Client())

    assert answer.status_code == 403
    assert "in no group" in answer.content.decode()
    key.refresh_from_db()
    dora.refresh_from_db()
    assert key.revoked_at is not None
    assert not dora.is_active
    assert elsewhere.get("/dashboard/").status_code == 302
    with pytest.raises(auth.Refused):
        auth.authenticate({"x-api-key": secret}, None, allow_query=False, loopback=True)


def test_who_is_in_a_group_again_comes_back_without_the_old_keys(
    provider: Any, team: Team, client: Client
) -> None:
    sign_in(client)
    dora = Member.objects.get(username="dora")
    key, _secret = keys.create("laptop", dora)
    provider.person["groups"] = []
    sign_in(Client())
    provider.person["groups"] = ["engineers"]

    answer = sign_in(client)

    assert answer.status_code == 302
    dora.refresh_from_db()
    key.refresh_from_db()
    assert dora.is_active
    assert key.revoked_at is not None


def test_who_was_disabled_by_an_administrator_does_not_come_back_by_a_group(
    provider: Any, team: Team, client: Client, as_ada: Client
) -> None:
    sign_in(client)
    as_ada.post("/dashboard/members/dora/disable/")

    sign_in(client)

    assert not Member.objects.get(username="dora").is_active
    assert client.get("/dashboard/").status_code == 302


@pytest.mark.parametrize(
    ("group", "role"),
    [("platform-admins", Role.ADMIN), ("revision", Role.AUDITOR), ("engineers", Role.MEMBER)],
)
def test_role_and_team_follow_the_groups_at_every_sign_in(
    group: str, role: Role, provider: Any, team: Team, ada: Member, client: Client
) -> None:
    sign_in(client)
    provider.person["groups"] = [group]

    sign_in(client)

    dora = Member.objects.get(username="dora")
    assert dora.role == role
    assert dora.team == (team if group == "engineers" else None)
    if role != Role.MEMBER:
        entry = AuditEntry.objects.get(action="member.role_changed")
        assert entry.detail == {"before": "member", "after": role.value}


def test_of_several_groups_the_strongest_role_and_the_first_team_count(
    provider: Any, team: Team, client: Client
) -> None:
    provider.person["groups"] = ["revision", "engineers", "unknown"]

    sign_in(client)

    dora = Member.objects.get(username="dora")
    assert (dora.role, dora.team) == (Role.AUDITOR, team)


def test_the_last_administrator_stays_one_whatever_the_groups_say(
    provider: Any, team: Team, client: Client
) -> None:
    provider.person["groups"] = ["platform-admins"]
    sign_in(client)
    provider.person["groups"] = []

    answer = sign_in(client)

    assert answer.status_code == 302
    dora = Member.objects.get(username="dora")
    assert dora.is_active
    assert dora.role == Role.ADMIN


def test_an_address_that_somebody_has_does_not_open_their_account(
    provider: Any, team: Team, ben: Member, client: Client
) -> None:
    provider.person["email"] = "BEN@example.org"

    answer = sign_in(client)

    assert answer.status_code == 403
    assert "Somebody has your e-mail address" in answer.content.decode()
    assert not SocialAccount.objects.exists()
    assert client.get("/dashboard/").status_code == 302


def test_a_name_that_somebody_has_gets_a_number(
    provider: Any, team: Team, ben: Member, client: Client
) -> None:
    provider.person["preferred_username"] = "ben"

    sign_in(client)

    assert Member.objects.get(email="dora@corp.example").username == "ben-2"
    ben.refresh_from_db()
    assert ben.email == "ben@example.org"


def test_an_invited_person_may_join_by_the_provider(
    provider: Any, ada: Member, client: Client
) -> None:
    invite, token = invites.make(actor=ada, role=Role.AUDITOR)
    assert "Join with Corp" in client.get(f"/dashboard/join/{token}/").content.decode()

    answer = sign_in(client)

    assert answer.status_code == 302
    invite.refresh_from_db()
    dora = Member.objects.get(username="dora")
    assert invite.member == dora
    assert dora.role == Role.AUDITOR
    # Who came by an invite is not put out for being in no group.
    assert sign_in(Client()).status_code == 302


@pytest.mark.parametrize(("is_verified", "status"), [(True, 302), (False, 403)])
def test_a_verified_address_of_our_domain_lets_in(
    is_verified: bool, status: int, provider: Any, client: Client, settings: Any
) -> None:
    settings.GATEWAY_SSO_DOMAINS = ["corp.example"]
    provider.person["email_verified"] = is_verified

    assert sign_in(client).status_code == status


def test_groups_may_stand_inside_another_claim(
    provider: Any, team: Team, client: Client, settings: Any
) -> None:
    settings.GATEWAY_OIDC_GROUPS_CLAIM = "realm_access.roles"
    del provider.person["groups"]
    provider.person["realm_access"] = {"roles": ["engineers"]}

    assert sign_in(client).status_code == 302


def test_an_answer_with_a_foreign_state_signs_nobody_in(
    provider: Any, team: Team, client: Client
) -> None:
    away = client.get(SIGN_IN)
    back = requests.get(away["Location"], allow_redirects=False, timeout=5).headers["Location"]

    answer = Client().get(back.replace("http://testserver", ""))

    assert "could not be completed" in answer.content.decode()
    assert not Member.objects.exists()


def test_a_provider_that_is_away_is_said_and_the_password_still_works(
    provider: Any, ada: Member, client: Client
) -> None:
    provider.is_down = True

    answer = client.get(SIGN_IN)

    assert answer["Location"] == "/dashboard/sign-in/?sso=away"
    assert "does not answer as it should" in client.get(answer["Location"]).content.decode()
    password = {"username": "ada", "password": "correct horse battery staple"}
    assert client.post("/dashboard/sign-in/", password).status_code == 302
    assert client.get("/dashboard/members/").status_code == 200


def test_the_session_gets_a_new_id(provider: Any, team: Team, client: Client) -> None:
    client.get("/dashboard/sign-in/")
    session = client.session
    session["mark"] = 1
    session.save()

    sign_in(client)

    assert client.session.session_key != session.session_key


def test_a_member_connects_the_provider_and_keeps_role_and_team(
    provider: Any, team: Team, ben: Member, as_ben: Client
) -> None:
    password = {"password": "correct horse battery staple"}
    as_ben.post("/dashboard/sso/confirm/", password)

    answer = sign_in(as_ben, f"{SIGN_IN}?process=connect&next=/dashboard/me/")

    assert answer["Location"] == "/dashboard/me/"
    assert SocialAccount.objects.get().user == ben
    elsewhere = Client()
    assert sign_in(elsewhere).status_code == 302
    assert 'value="ben"' in elsewhere.get("/dashboard/me/").content.decode()
    ben.refresh_from_db()
    assert (ben.team, ben.is_managed) == (None, False)
    assert "Corp" in as_ben.get("/dashboard/sso/connections/").content.decode()
    # The identity is Ben's now: nobody else can connect it.
    other = Member.objects.create_user("cleo", password=password["password"])
    client = Client()
    client.force_login(other)
    client.post("/dashboard/sso/confirm/", password)
    sign_in(client, f"{SIGN_IN}?process=connect&next=/dashboard/me/")
    assert SocialAccount.objects.get().user == ben


def test_who_belongs_by_the_providers_word_comes_by_the_provider_only(
    provider: Any, team: Team, client: Client
) -> None:
    sign_in(client)
    dora = Member.objects.get(username="dora")
    new = {"new_password1": "a sentence 7 nobody", "new_password2": "a sentence 7 nobody"}
    assert client.post("/dashboard/me/password/", new).status_code == 404
    assert "Set a password" not in client.get("/dashboard/me/").content.decode()
    dora.set_password("a sentence 7 nobody")
    dora.save()

    door = Client()
    answer = door.post(
        "/dashboard/sign-in/", {"username": "dora", "password": "a sentence 7 nobody"}
    )

    assert answer["Location"] == "/dashboard/sign-in/?sso=only"
    assert "identity provider" in door.get(answer["Location"]).content.decode()
    assert door.get("/dashboard/").status_code == 302


def test_the_session_of_who_belongs_by_the_provider_ends_within_the_day(
    provider: Any, team: Team, client: Client
) -> None:
    sign_in(client)

    assert client.session.get_expiry_age() <= 12 * 3600


@pytest.mark.parametrize("name", ["inactive", "cancelled", "failed"])
def test_pages_on_the_way_have_our_look_and_policy(name: str, client: Client) -> None:
    answer = client.get(f"/dashboard/sso/{name}/")

    assert answer.status_code == (401 if name == "failed" else 200)
    body = answer.content.decode()
    assert body.count("<h1") == 1
    assert "css/gateway.css" in body
    assert "<style" not in body
    assert "unsafe" not in answer["Content-Security-Policy"]


@pytest.fixture
def github(provider: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings.SOCIALACCOUNT_PROVIDERS = {
        "github": {
            "APPS": [{"client_id": "x", "secret": provider_module.CLIENT_SECRET, "name": "GitHub"}]
        }
    }
    settings.GATEWAY_GITHUB_ORG = "Octo-Org"
    provider.play_github(monkeypatch)
    provider.person = {"id": 7, "login": "octodora", "name": "Dora", "email": "dora@corp.example"}
    return provider


def test_members_of_the_github_organisation_come_in_and_leave_with_it(
    github: Any, client: Client
) -> None:
    assert sign_in(client, "/dashboard/sso/github/login/").status_code == 403
    github.orgs = ["octo-org"]
    assert sign_in(client, "/dashboard/sso/github/login/").status_code == 302
    dora = Member.objects.get(username="octodora")
    key, _secret = keys.create("laptop", dora)
    github.orgs = []

    assert sign_in(client, "/dashboard/sso/github/login/").status_code == 403

    key.refresh_from_db()
    assert key.revoked_at is not None
    assert not Member.objects.get(pk=dora.pk).is_active
