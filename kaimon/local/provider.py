"""An identity provider for development: real OpenID Connect on loopback, which lets in whoever says who they are.

`python -m kaimon.local.provider --port 8445` runs it. It listens on loopback only, and a portal takes it only if that
is on this machine too: see `PortalSettings`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import secrets
import signal
import time
from collections.abc import Mapping
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from dashboards.portal.settings import PortalSettings

CODE_S: Final = 60.0
_FORM: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Development login</title>
<h1>Development login</h1><p>This provider believes whatever it is told.</p>
<form method="post" action="/authorize">{hidden}<label>E-mail address <input name="email" type="email" required></label>
<label><input type="checkbox" name="unverified" value="1"> not verified</label>
<label><input type="checkbox" name="mfa" value="1"> with a second factor</label><button>Log in</button></form></html>"""


class Provider:
    """The provider's state: one key, and the codes that wait to be swapped."""

    def __init__(self, issuer: str, client_id: str, callback: str) -> None:
        """Serve one client, which must come back to `callback`."""
        self.issuer, self.client_id, self.callback = issuer, client_id, callback
        self.key = RSAKey.generate_key(2048, auto_kid=True)
        self.codes: dict[str, tuple[float, dict[str, str]]] = {}

    def discovery(self) -> dict[str, Any]:
        """Return the discovery document."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        }

    def why_not(self, asked: Mapping[str, str]) -> str | None:
        """Return what is wrong with a request for a code."""
        wanted = {
            "client_id": self.client_id,
            "redirect_uri": self.callback,
            "response_type": "code",
            "code_challenge_method": "S256",
        }
        wrong = [name for name, value in wanted.items() if asked.get(name) != value]
        wrong += [name for name in ("state", "nonce", "code_challenge") if not asked.get(name)]
        return f"wrong or missing: {', '.join(wrong)}" if wrong else None

    def code_for(self, asked: dict[str, str]) -> str:
        """Return a code for whoever filled in the form."""
        code = secrets.token_urlsafe(24)
        self.codes[code] = (time.monotonic() + CODE_S, asked)
        return code

    def swap(self, form: Mapping[str, str]) -> dict[str, Any] | None:
        """Swap a code, once and in time, for an ID token, if the verifier fits its challenge."""
        until, asked = self.codes.pop(form.get("code", ""), (0.0, {}))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=")
        fits = hmac.compare_digest(challenge, asked.get("code_challenge", "").encode())
        if time.monotonic() > until or not fits or form.get("redirect_uri") != self.callback:
            return None
        now, email = int(time.time()), asked["email"].strip().lower()
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "sub": hashlib.sha256(email.encode()).hexdigest()[:24],
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "email": email,
            "email_verified": "unverified" not in asked,
            "amr": ["pwd", "mfa"] if "mfa" in asked else ["pwd"],
        }
        token = jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)
        return {"access_token": secrets.token_urlsafe(24), "token_type": "Bearer", "expires_in": 300, "id_token": token}


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        """Answer discovery, keys and the form."""
        parts = urlsplit(self.path)
        asked = dict(parse_qsl(parts.query))
        if parts.path == "/.well-known/openid-configuration":
            self._json(200, self.provider.discovery())
        elif parts.path == "/jwks":
            self._json(200, {"keys": [self.provider.key.as_dict(private=False)]})
        elif parts.path == "/authorize" and (why := self.provider.why_not(asked)) is not None:
            self._json(400, {"error": "invalid_request", "error_description": why})
        elif parts.path == "/authorize":
            pairs = (f'<input type="hidden" name="{escape(n)}" value="{escape(v)}">' for n, v in asked.items())
            self._send(200, "text/html; charset=utf-8", _FORM.format(hidden="".join(pairs)).encode())
        else:
            self._json(404, {"error": "not_found"})

    def do_POST(self) -> None:
        """Take the form, and swap codes."""
        length = min(int(self.headers.get("Content-Length", "0")), 65_536)
        form = dict(parse_qsl(self.rfile.read(length).decode()))
        if self.path == "/authorize" and self.provider.why_not(form) is None and form.get("email"):
            answer = {"code": self.provider.code_for(form), "state": form["state"], "iss": self.provider.issuer}
            self.send_response(303)
            self.send_header("Location", f"{self.provider.callback}?{urlencode(answer)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/token" and (token := self.provider.swap(form)) is not None:
            self._json(200, token)
        else:
            self._json(400, {"error": "invalid_grant"})

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing: addresses would stand in the log."""


def main() -> None:
    """Serve on loopback until SIGTERM or Ctrl-C, for the portal that the settings describe.

    Raises:
        SystemExit: that portal is not on this machine.
    """
    # Whoever starts it may ignore the signal, which a child would do too.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8445)
    port = parser.parse_args().port
    settings = PortalSettings()
    if not settings.is_local:
        raise SystemExit("the development provider serves a portal on this machine only")
    handler = type("Handler", (_Handler,), {})
    handler.provider = Provider(f"http://127.0.0.1:{port}", settings.oidc_client_id, settings.callback)  # type: ignore[attr-defined]
    ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


if __name__ == "__main__":
    main()
