"""What somebody could try with an identity provider: claims, groups, addresses and doors that lie."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from allauth.socialaccount.models import SocialAccount
from cryptography.hazmat.primitives.asymmetric import rsa
from django.core.cache import caches
from django.http import HttpResponse
from django.test import Client

from accounts import tries
from accounts.models import AuditEntry, GroupMapping, Member, Role
from tests.site.pages import identity_provider
from tests.site.pages.identity_provider import CLIENT_ID, CLIENT_SECRET, Provider

OIDC = "/dashboard/sso/oidc/login/"
GITHUB = "/dashboard/sso/github/login/"
DORA = {
    "sub": "dora-1",
    "preferred_username": "dora",
    "email": "dora@corp.example",
    "email_verified": True,
    "groups": ["engineers"],
}


@pytest.fixture
def provider(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    caches["default"].clear()
    running = identity_provider.Provider()
    app = {
        "provider_id": "oidc",
        "name": "Corp",
        "client_id": CLIENT_ID,
        "secret": CLIENT_SECRET,
        "settings": {"server_url": running.url},
    }
    github = {"client_id": "x", "secret": CLIENT_SECRET, "name": "GitHub"}
    settings.SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]},
        "github": {"APPS": [github]},
    }
    settings.GATEWAY_OIDC_ISSUER = running.url
    running.play_github(monkeypatch)
    running.person = dict(DORA)
    GroupMapping.objects.create(group="engineers")
    yield running
    running.close()


def go(client: Client, path: str = OIDC) -> tuple[HttpResponse, dict[str, str]]:
    """To the provider and back; what our door said, and what the provider was asked."""
    away = client.get(path)
    assert away.status_code == 302, away.content
    asked = {k: v[0] for k, v in parse_qs(urlsplit(away["Location"]).query).items()}
    back = requests.get(away["Location"], allow_redirects=False, timeout=5)
    answer = client.get(back.headers["Location"].replace("http://testserver", ""))
    return answer, asked  # type: ignore[return-value]


def is_in(client: Client) -> bool:
    return client.get("/dashboard/").status_code == 200


def test_a_group_called_like_an_organisation_gives_no_rights_of_the_organisation(
    provider: Provider, client: Client
) -> None:
    """Who may name groups at the provider must not name themselves administrators by it."""
    GroupMapping.objects.create(group="github:acme-admins", role=Role.ADMIN)
    provider.person["groups"] = ["engineers", "github:acme-admins", " GitHub:acme-admins"]

    go(client)

    assert Member.objects.get(username="dora").role == Role.MEMBER


@pytest.mark.parametrize("said", ["false", "no", 0, None, ["true"]])
def test_an_address_that_is_not_verified_opens_nothing(
    provider: Provider, client: Client, settings: Any, said: object
) -> None:
    """Some providers write the word `false`, which Python takes for true."""
    settings.GATEWAY_SSO_DOMAINS = ["corp.example"]
    provider.person |= {"groups": [], "email_verified": said}

    answer, _ = go(client)

    assert answer.status_code == 403
    assert not Member.objects.filter(username="dora").exists()


@pytest.mark.parametrize("said", [True, "true"])
def test_an_address_that_is_verified_does(
    provider: Provider, client: Client, settings: Any, said: object
) -> None:
    settings.GATEWAY_SSO_DOMAINS = ["corp.example"]
    provider.person |= {"groups": [], "email_verified": said}

    answer, _ = go(client)

    assert answer.status_code == 302
    assert is_in(client)


def test_who_has_left_the_provider_does_not_come_back_by_another_identity(
    provider: Provider, client: Client
) -> None:
    go(client)
    corp = dict(provider.person)
    provider.person = {"id": 7, "login": "octodora", "name": "Dora", "email": "d@home.example"}
    go(client, f"{GITHUB}?process=connect&next=/dashboard/me/")
    assert SocialAccount.objects.filter(user__username="dora").count() == 2

    door = Client()
    answer, _ = go(door, GITHUB)

    assert answer["Location"] == "/dashboard/sign-in/?sso=only"
    assert not is_in(door)
    # Nor by taking the identity away that says who belongs here.
    first = SocialAccount.objects.get(provider="oidc")
    client.post("/dashboard/sso/connections/", {"account": first.pk})
    assert SocialAccount.objects.filter(pk=first.pk).exists()
    provider.person = corp
    assert go(Client())[0].status_code == 302


def test_a_link_does_not_widen_what_the_provider_is_asked_for(
    provider: Provider, client: Client
) -> None:
    more = "scope=repo,admin:org&auth_params=prompt%3Dnone%26client_id%3Devil%26nonce%3Dmine"

    _, asked = go(client, f"{OIDC}?{more}")

    assert asked["client_id"] == CLIENT_ID
    assert "repo" not in asked["scope"]
    assert "prompt" not in asked
    assert asked["nonce"] != "mine"


def test_an_id_token_is_for_the_sign_in_that_asked_for_it(
    provider: Provider, client: Client
) -> None:
    """10.5.1: a token of another sign-in, slipped in between, has another nonce."""
    provider.forge = lambda claims: claims | {"nonce": "of-another-sign-in"}
    assert go(client)[0].status_code == 401
    provider.forge = lambda claims: {k: v for k, v in claims.items() if k != "nonce"}
    assert go(client)[0].status_code == 401
    assert not is_in(client)
    provider.forge = None
    assert go(client)[0].status_code == 302


def test_an_id_token_is_signed_by_the_provider(provider: Provider, client: Client) -> None:
    """6.8.2, 9.1.1: also one that comes from the token endpoint."""
    real, provider.signing_key = (
        provider.signing_key,
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    )
    assert go(client)[0].status_code == 401
    provider.signing_key, provider.algorithm = "k" * 64, "HS256"
    assert go(client)[0].status_code == 401
    provider.signing_key, provider.algorithm = None, "none"
    assert go(client)[0].status_code == 401
    assert not Member.objects.filter(username="dora").exists()
    provider.signing_key, provider.algorithm = real, "RS256"
    assert go(client)[0].status_code == 302


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"aud": "another-client"},
        {"exp": 1_000_000_000},
        {"sub": "somebody-else"},
        {"iat": None},
    ],
    ids=lambda claims: next(iter(claims)),
)
def test_an_id_token_of_others_signs_nobody_in(
    provider: Provider, client: Client, claims: dict[str, object]
) -> None:
    """Issuer, audience, time, and a person other than the one userinfo is about."""
    provider.forge = lambda real: {k: v for k, v in (real | claims).items() if v is not None}

    assert go(client)[0].status_code == 401
    assert not is_in(client)


def test_a_provider_that_calls_itself_otherwise_is_not_believed(
    provider: Provider, client: Client, settings: Any
) -> None:
    """10.5.3: the document's issuer is the one of the settings."""
    provider.issuer = "https://mix-up.example"

    answer = client.get(OIDC)

    assert answer["Location"] == "/dashboard/sign-in/?sso=away"


def test_addresses_of_the_provider_in_clear_are_not_asked(
    provider: Provider, client: Client
) -> None:
    provider.document = {"token_endpoint": "http://idp.corp.example/token"}
    assert client.get(OIDC)["Location"] == "/dashboard/sign-in/?sso=away"
    provider.document = {"jwks_uri": "http://169.254.169.254/latest/meta-data"}
    assert client.get(OIDC)["Location"] == "/dashboard/sign-in/?sso=away"


def test_how_somebody_was_known_to_the_provider_can_be_demanded(
    provider: Provider, client: Client, settings: Any
) -> None:
    """6.8.4: `acr` is asked for and checked; the audit log keeps what the provider said."""
    settings.GATEWAY_OIDC_ACR = ["phr", "phrh"]
    answer, asked = go(client)
    assert asked["acr_values"] == "phr phrh"
    assert answer.status_code == 401
    provider.person |= {"acr": "phrh", "amr": ["hwk", "pin"]}

    assert go(client)[0].status_code == 302

    entry = AuditEntry.objects.filter(action="member.signed_in", actor="dora").first()
    assert entry is not None
    assert (entry.detail["acr"], entry.detail["amr"]) == ("phrh", ["hwk", "pin"])


def test_nobody_joins_under_a_name_that_the_audit_log_gives_to_the_gateway(
    provider: Provider, client: Client
) -> None:
    provider.person["preferred_username"] = "Gateway"

    go(client)

    assert Member.objects.get().username == "Gateway-2"


def test_a_stranger_does_not_make_us_ask_the_provider_without_end(
    provider: Provider, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "PROVIDER", tries.Tries("provider", 2))
    assert [client.get(OIDC).status_code for _ in range(4)] == [302, 302, 429, 429]
    assert client.get(OIDC, REMOTE_ADDR="192.0.2.9").status_code == 302


def test_tokens_of_the_tests_are_what_they_seem(provider: Provider, client: Client) -> None:
    go(client)
    assert jwt.get_unverified_header(provider.last_token)["alg"] == "RS256"
