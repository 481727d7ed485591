"""Login by OpenID Connect: the authorization-code flow with PKCE, at any provider."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

import requests
from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]
from authlib.integrations.requests_client import OAuth2Session  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from dashboards.portal.settings import PortalSettings
from kaimon.base.problems import Problem
from kaimon.base.secrets import resolved
from kaimon.base.settings import AwsSettings
from tenancy.sessions import Attempt

_TIMEOUT_S: Final = 10
_ALGORITHMS: Final = ["RS256", "ES256", "PS256", "EdDSA"]


@dataclass(frozen=True)
class Identity:
    """Who the provider says it is."""

    issuer: str
    subject: str
    email: str | None
    verified: bool


def refused(why: str) -> Problem:
    """Return the refusal of a login."""
    return Problem(403, "login_refused", "Login refused", why)


class Provider:
    """The identity provider, as its discovery document describes it."""

    def __init__(self, settings: PortalSettings) -> None:
        """Take the settings; the provider is asked when somebody logs in."""
        self._settings = settings
        self._trusted: bool | str = True if settings.oidc_ca is None else str(settings.oidc_ca)

    def redirect(self, attempt: Attempt, *, anew: bool = False) -> str:
        """Return where to send a browser that wants to log in.

        Args:
            attempt: the login that it has begun.
            anew: ask the provider to have people say who they are, even if it knows this browser.
        """
        found = self._discovery()
        extra: dict[str, str] = {"nonce": attempt.nonce} | ({"prompt": "login"} if anew else {})
        if self._settings.oidc_mfa_acr:
            extra["acr_values"] = " ".join(self._settings.oidc_mfa_acr)
        if self._settings.oidc_require_mfa and found.get("claims_parameter_supported") is True:
            # A provider that goes by the letter says how somebody proved themselves only if it is asked.
            extra["claims"] = json.dumps({"id_token": {"amr": None, "acr": None}})
        with self._client() as client:
            url, _ = client.create_authorization_url(
                found["authorization_endpoint"], state=attempt.state, code_verifier=attempt.verifier, **extra
            )
        return str(url)

    def identity(self, attempt: Attempt, answer: dict[str, str]) -> Identity:
        """Return who came back from the provider.

        Raises:
            Problem: 403, the answer is not to what was asked, or says too little; 503, the provider does not answer.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise refused("this login was not begun here")
        found = self._discovery()
        if answer.get("iss", found["issuer"]) != found["issuer"]:
            raise refused("the answer is another provider's")
        if "code" not in answer:
            raise refused("the identity provider did not let you in")
        try:
            with self._client() as client:
                token = client.fetch_token(
                    found["token_endpoint"],
                    grant_type="authorization_code",
                    code=answer["code"],
                    code_verifier=attempt.verifier,
                    timeout=_TIMEOUT_S,
                    verify=self._trusted,
                )
            keys = KeySet.import_key_set({"keys": self._document(found["jwks_uri"])["keys"]})
            claims = jwt.decode(token["id_token"], keys, algorithms=_ALGORITHMS).claims
            jwt.JWTClaimsRegistry(
                iss={"essential": True, "value": found["issuer"]},
                aud={"essential": True, "value": self._settings.oidc_client_id},
                nonce={"essential": True, "value": attempt.nonce},
                exp={"essential": True},
                sub={"essential": True},
            ).validate(claims)
            self._judge(claims)
            said = claims if "email" in claims else self._userinfo(found, token["access_token"], claims["sub"])
        except requests.RequestException as error:
            raise _away() from error
        except (AuthlibBaseError, JoseError, KeyError, ValueError) as error:
            raise refused("the identity provider's answer does not hold") from error
        email = said.get("email")
        return Identity(
            issuer=str(claims["iss"]),
            subject=str(claims["sub"]),
            email=email if isinstance(email, str) else None,
            verified=said.get("email_verified") is True,
        )

    def _judge(self, claims: dict[str, Any]) -> None:
        client = self._settings.oidc_client_id
        if claims.get("azp", client) != client:
            raise refused("the answer was made for another application")
        methods = claims.get("amr")
        twice = isinstance(methods, list) and "mfa" in methods
        if self._settings.oidc_require_mfa and not (twice or claims.get("acr") in self._settings.oidc_mfa_acr):
            raise refused("a second factor is required: set one up at your identity provider")

    def _userinfo(self, found: dict[str, Any], access_token: str, subject: Any) -> dict[str, Any]:
        """Return what the provider says of whoever logged in, for an ID token without address (OpenID Connect, 5.4)."""
        if "userinfo_endpoint" not in found:
            return {}
        said = self._document(found["userinfo_endpoint"], {"Authorization": f"Bearer {access_token}"})
        if said.get("sub") != subject:
            raise refused("the identity provider's answer does not hold")
        return said

    def _client(self) -> Any:
        settings, secret = self._settings, None
        if settings.oidc_client_secret is not None:
            secret = resolved(settings.oidc_client_secret, AwsSettings(home=settings.home))
        return OAuth2Session(
            settings.oidc_client_id,
            secret,
            scope="openid email",
            redirect_uri=settings.callback,
            code_challenge_method="S256",
            token_endpoint_auth_method="none" if secret is None else "client_secret_basic",
        )

    def _discovery(self) -> dict[str, Any]:
        issuer = self._settings.oidc_issuer
        if issuer is None:
            raise Problem(503, "no_provider", "No identity provider", "KAIMON_OIDC_ISSUER is not set")
        found = self._document(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise refused("the identity provider calls itself something else")
        return found

    def _document(self, url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            answer = requests.get(url, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False, verify=self._trusted)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise _away() from error
        return found


def _away() -> Problem:
    return Problem(503, "provider_away", "The identity provider does not answer", "Try again in a moment.")
