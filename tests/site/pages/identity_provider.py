"""A small OpenID provider on a loopback port: discovery, authorisation, token, keys, userinfo."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from allauth.socialaccount.providers.github.views import GitHubOAuth2Adapter
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID = "gateway"
CLIENT_SECRET = "provider-secret"


class Provider:
    """`person` is who signs in next: the claims of the id token and of userinfo."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.person: dict[str, Any] = {}
        self.orgs: list[str] = []
        self.is_down = False
        # What a provider that lies, or somebody in between, changes.
        self.issuer = ""
        self.document: dict[str, Any] = {}
        self.forge: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self.signing_key: Any = self.key
        self.algorithm = "RS256"
        self.last_token = ""
        self.codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                provider._get(self, url.path, query)

            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                given = parse_qs(self.rfile.read(size).decode())
                provider._token(self, {name: values[0] for name, values in given.items()})

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def play_github(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answer for GitHub's addresses, too."""
        for name, path in {
            "api_url": "/api/v3",
            "access_token_url": "/login/oauth/access_token",
            "authorize_url": "/login/oauth/authorize",
            "profile_url": "/api/v3/user",
            "emails_url": "/api/v3/user/emails",
        }.items():
            monkeypatch.setattr(GitHubOAuth2Adapter, name, self.url + path)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _get(self, handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
        if self.is_down:
            return _send(handler, 503, {"error": "away"})
        if path == "/.well-known/openid-configuration":
            return _send(handler, 200, self._discovery())
        if path in ("/authorize", "/login/oauth/authorize"):
            code = f"code-{len(self.codes)}"
            self.codes[code] = query
            back = urlencode({"code": code, "state": query["state"]})
            return _send(handler, 302, {}, {"Location": f"{query['redirect_uri']}?{back}"})
        if path == "/jwks":
            public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            return _send(handler, 200, {"keys": [public | {"kid": "one", "use": "sig"}]})
        if handler.headers.get("Authorization", "").split()[-1:] != ["access"]:
            return _send(handler, 401, {"error": "invalid_token"})
        if path in ("/userinfo", "/api/v3/user"):
            return _send(handler, 200, self.person)
        if path == "/api/v3/user/emails":
            address = {"email": self.person["email"], "primary": True, "verified": True}
            return _send(handler, 200, [address])
        if path == "/api/v3/user/orgs":
            return _send(handler, 200, [{"login": name} for name in self.orgs])
        return _send(handler, 404, {})

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer or self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            **self.document,
        }

    def _token(self, handler: BaseHTTPRequestHandler, given: dict[str, str]) -> None:
        asked = self.codes.pop(given.get("code", ""), None)
        if asked is None or given.get("client_secret") != CLIENT_SECRET:
            return _send(handler, 400, {"error": "invalid_grant"})
        if "code_challenge" in asked:
            digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
            proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if proof != asked["code_challenge"]:
                return _send(handler, 400, {"error": "invalid_grant"})
        now = int(time.time())
        claims = self.person | {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 60}
        if "nonce" in asked:
            claims["nonce"] = asked["nonce"]
        if self.forge is not None:
            claims = self.forge(claims)
        id_token = jwt.encode(
            claims, self.signing_key, algorithm=self.algorithm, headers={"kid": "one"}
        )
        self.last_token = id_token
        answer = {"access_token": "access", "token_type": "Bearer", "id_token": id_token}
        return _send(handler, 200, answer)


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    document: Any,
    headers: dict[str, str] | None = None,
) -> None:
    body = json.dumps(document).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
