"""OpenID Connect beyond what allauth asks: who answers, for which sign-in, and how sure the provider is.

The ID token must be signed by a key of the provider, be of the issuer that the settings name, for this
application, of the person whom userinfo is about, and hold the nonce of the sign-in that asked for it.
"""

import hmac
import logging
import secrets
from typing import Any, Final

import jwt
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from requests import RequestException

from accounts.hosts import is_loopback, name_of

logger = logging.getLogger(__name__)
NONCE: Final = "nonce"
# What the provider said of how it knows the person; kept until the session begins.
HOW_IN_SESSION: Final = "oidc_how"
WELL_KNOWN: Final = "/.well-known/"
# With a key pair only: nobody but the provider can sign. `none` and shared secrets are not there.
ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
REQUIRED: Final = ("iss", "sub", "aud", "exp", "iat")
# Seconds that two clocks may differ.
LEEWAY_S: Final = 60
ADDRESSES: Final = (
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
)


class Untrusted(OAuth2Error, ValueError):  # type: ignore[misc]
    """What came cannot be from this provider, or is not for this sign-in."""


class Adapter(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]
    """allauth's, with every claim looked at. `nonce` is the one of the sign-in that comes back."""

    nonce = ""

    @property
    def openid_config(self) -> dict[str, Any]:
        if not hasattr(self, "_sound_config"):
            named = str(self.get_provider().app.settings["server_url"])
            self._sound_config = _sound(super().openid_config, named)
        return self._sound_config

    def complete_login(
        self, request: HttpRequest, app: SocialApp, token: Any, **kwargs: Any
    ) -> SocialLogin:
        if not kwargs["response"].get("id_token"):
            raise Untrusted("the provider sent no ID token")
        login: SocialLogin = super().complete_login(request, app, token, **kwargs)
        said = login.account.extra_data
        claims, userinfo = said["id_token"], said.get("userinfo")
        if userinfo is not None and userinfo.get("sub") != claims["sub"]:
            raise Untrusted("userinfo is about another person than the ID token")
        request.session[HOW_IN_SESSION] = _how(claims)
        return login

    def _decode_id_token(self, app: SocialApp, id_token: str) -> dict[str, Any]:
        claims = self._signed_claims(app, id_token)
        if not self.nonce or not hmac.compare_digest(
            str(claims.get(NONCE, "")).encode(), self.nonce.encode()
        ):
            raise Untrusted("the ID token is of another sign-in")
        audience = claims["aud"]
        is_shared = isinstance(audience, list) and len(audience) > 1
        if (is_shared or "azp" in claims) and claims.get("azp") != app.client_id:
            raise Untrusted("the ID token was made for another application")
        wanted = settings.GATEWAY_OIDC_ACR
        if wanted and claims.get("acr") not in wanted:
            raise Untrusted(f"the provider knows the person by {claims.get('acr')!r} only")
        return claims

    def _signed_claims(self, app: SocialApp, id_token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(id_token)
            if header.get("alg") not in ALGORITHMS:
                raise Untrusted(f"the ID token is signed by {header.get('alg')!r}")
            claims: dict[str, Any] = jwt.decode(
                id_token,
                key=self._key(header.get("kid")),
                algorithms=list(ALGORITHMS),
                issuer=self.openid_config["issuer"],
                audience=app.client_id,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED)},
            )
        except jwt.PyJWTError as error:
            raise Untrusted(f"the ID token does not hold: {type(error).__name__}") from error
        return claims

    def _key(self, kid: str | None) -> jwt.PyJWK:
        with get_adapter().get_requests_session() as session:
            answer = session.get(self.openid_config["jwks_uri"], allow_redirects=False)
            answer.raise_for_status()
        keys = jwt.PyJWKSet.from_dict(answer.json()).keys
        fitting = [key for key in keys if key.key_id == kid] if kid else keys
        if len(fitting) != 1:
            raise Untrusted("the provider has no such key")
        return fitting[0]


def _sound(document: dict[str, Any], named: str) -> dict[str, Any]:
    """The provider's document, if it is the one of the settings and names no address in clear."""
    issuer = str(document["issuer"])
    if issuer.rstrip("/") != named.partition(WELL_KNOWN)[0].rstrip("/"):
        raise Untrusted(f"the provider calls itself {issuer[:200]!r}, the settings say otherwise")
    for name in ADDRESSES:
        address = str(document[name])
        is_local = is_loopback(name_of(address)) and is_loopback(name_of(issuer))
        if not address.startswith("https://") and not is_local:
            raise Untrusted(f"{name} is not https")
    return document


def _how(claims: dict[str, Any]) -> dict[str, Any]:
    """For the audit log: by which means, how sure, and when the provider knew the person."""
    means = claims.get("amr")
    how = {
        "acr": str(claims.get("acr") or "")[:100],
        "amr": [str(one)[:40] for one in means[:10]] if isinstance(means, list) else [],
        "auth_time": claims.get("auth_time") if isinstance(claims.get("auth_time"), int) else 0,
    }
    return {name: value for name, value in how.items() if value}


def login(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """To the provider, with a nonce that only this session knows."""
    try:
        provider = Adapter(request, provider_id).get_provider()
    except SocialApp.DoesNotExist:
        raise Http404 from None
    provider.oauth2_adapter_class = Adapter
    nonce = secrets.token_urlsafe(32)
    more = {NONCE: nonce}
    if settings.GATEWAY_OIDC_ACR:
        more["acr_values"] = " ".join(settings.GATEWAY_OIDC_ACR)
    asked = provider.get_redirect_from_request_kwargs(request)
    asked["auth_params"] = {**provider.get_auth_params(), **more}
    answer: HttpResponseBase = provider.redirect(request, **asked, nonce=nonce)
    return answer


class Callback(OAuth2CallbackView):  # type: ignore[misc]
    """The way back: hands the nonce of the sign-in to the adapter."""

    def _get_state(self, request: HttpRequest, provider: Any) -> tuple[Any, Any]:
        state, answer = super()._get_state(request, provider)
        if state is not None:
            self.adapter.nonce = str(state.get(NONCE, ""))
        return state, answer


def callback(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    try:
        answer: HttpResponseBase = Callback.adapter_view(Adapter(request, provider_id))(request)
    except SocialApp.DoesNotExist:
        raise Http404 from None
    except (RequestException, KeyError, ValueError) as error:
        # Its document is read before anything else, which may fail.
        logger.warning("the identity provider cannot be asked: %r", error)
        return redirect("/dashboard/sign-in/?sso=away")
    return answer
