"""The page of a receipt: for whoever asked for an erasure and can log in no more, as their tenant is gone.

The code in the address is the proof. It was shown once, when the erasure was asked for; only its digest is kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from dashboards.portal.call import html
from kaimon.base.aws import AwsError
from kaimon.base.logs import get_logger
from kaimon.base.problems import Problem
from lake.settings import LakeSettings
from lake.stores import StoreError, open_store
from tenancy.database import Database
from tenancy.erasure_requests import request_by_code
from tenancy.keys import UnusableKeyError
from tenancy.receipts import fingerprint, known_public_key, object_key, public_pem
from tenancy.settings import TenancySettings

PATH: Final = "/erasure"
FILES: Final = {"receipt": "application/json", "signature": "application/octet-stream", "key": "application/x-pem-file"}


@dataclass(frozen=True)
class PublicKey:
    """What verifies receipts: PEM, and the SHA-256 of its DER in hex, which a receipt names."""

    pem: str
    fingerprint: str


def address(code: str) -> str:
    """Return where the page of a code is."""
    return f"{PATH}?{urlencode({'code': code})}"


def public_key(settings: TenancySettings) -> PublicKey | None:
    """Return the key that verifies receipts, None where this process cannot know it."""
    try:
        found = known_public_key(settings)
    except (UnusableKeyError, AwsError) as error:
        get_logger(__name__).warning("receipt_key_unknown", error=str(error))
        return None
    return None if found is None else PublicKey(public_pem(found), fingerprint(found))


def answer(db: Database, lake: LakeSettings, request: Request) -> Response:
    """Show how far an erasure has come, or hand out a file of its receipt.

    Raises:
        Problem: 404, it is no code, or there is no receipt yet; 503, the audit store does not answer.
    """
    code = request.query_params.get("code", "")
    found = request_by_code(db, code)
    if found is None:
        told = "It was cut short, or the request was withdrawn."
        raise Problem(404, "link_unknown", "This link does not hold", told)
    asked, erasure = found
    request.scope["kaimon_tenant"] = asked.tenant_id
    done = erasure is not None and erasure.finished_at is not None
    form = request.query_params.get("file")
    if form is None:
        files = {name: f"{address(code)}&file={name}" for name in FILES}
        key = _key_of(_get(lake, object_key(asked.tenant_id, erasure.erasure_id)), db) if erasure and done else None
        return html("receipt.html", asked=asked, erasure=erasure, files=files, key=key)
    if erasure is None or not done or form not in FILES:
        raise Problem(404, "not_found", "Not found", "There is no receipt yet.")
    name = object_key(asked.tenant_id, erasure.erasure_id)
    if form == "key":
        key = _key_of(_get(lake, name), db)
        if key is None:
            raise Problem(404, "not_found", "Not found", "Ask whoever runs this kaimon for the key.")
        return _file(key.pem.encode(), "receipts.pem", form)
    own = f"{asked.tenant_id}.json"
    if form == "signature":
        return _file(_get(lake, f"{name}.sig"), f"{own}.sig", form)
    return _file(_get(lake, name), own, form)


def _key_of(receipt: bytes, db: Database) -> PublicKey | None:
    """Return the key that a receipt was signed with, if it is the one that is known here."""
    known, said = public_key(db.settings), dict[str, Any](json.loads(receipt)).get("signed_by")
    return known if known is not None and known.fingerprint == said else None


def _get(lake: LakeSettings, key: str) -> bytes:
    try:
        return open_store("audit", lake).get(key)
    except StoreError as error:
        get_logger(__name__).warning("receipt_not_read", key=key, error=str(error))
        raise Problem(503, "no_receipt", "Not just now", "The receipt cannot be read. Try again.") from error


def _file(body: bytes, name: str, form: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=FILES[form], headers=headers)
