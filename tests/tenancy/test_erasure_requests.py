"""A request to erase a tenant: one at a time, withdrawn or begun and never both, found by its code alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tenancy.audit import read_chain
from tenancy.erasure_requests import NotNowError, request_by_code, request_erasure, request_of, withdraw_erasure
from tenancy.erasures import WithdrawnError, begin, get_erasure, remove_rows
from tenancy.missing import MissingError
from tenancy.retention import kept
from tenancy.tenants import create_tenant, get_tenant


def test_a_request_is_due_after_its_grace_and_stands_once(db: Any) -> None:
    tenant = create_tenant(db, "acme")
    asked, code = request_erasure(db, "acme")
    assert asked.due_at - asked.requested_at == timedelta(hours=db.settings.erasure_grace_hours)
    with pytest.raises(NotNowError):
        request_erasure(db, "acme")
    due = kept(tenant, db)
    assert (due.erase, due.erase_at, due.asked) == (None, asked.due_at, True)
    assert request_by_code(db, code) == (asked, None)
    assert request_by_code(db, "") is None
    assert code not in "".join(record.body for record in read_chain(db, "acme")[1])
    with pytest.raises(MissingError):
        request_erasure(db, "nobody")


def test_what_was_withdrawn_does_not_begin(db: Any) -> None:
    create_tenant(db, "acme")
    request_erasure(db, "acme")
    withdraw_erasure(db, "acme")
    with pytest.raises(WithdrawnError):
        begin(db, "acme", "lease", asked=True)
    assert get_erasure(db, "acme") is None
    known = get_tenant(db, "acme")
    assert known is not None
    assert known.subscription == "trial"
    assert request_of(db, "acme") is None
    with pytest.raises(MissingError):
        withdraw_erasure(db, "acme")


def test_what_has_begun_is_not_withdrawn_and_its_code_finds_it_when_the_tenant_is_gone(db: Any) -> None:
    create_tenant(db, "acme")
    asked, code = request_erasure(db, "acme")
    begun = begin(db, "acme", "lease", asked=True)
    with pytest.raises(NotNowError):
        withdraw_erasure(db, "acme")
    with pytest.raises(NotNowError):
        request_erasure(db, "acme")
    remove_rows(db, "acme")
    assert get_tenant(db, "acme") is None
    found = request_by_code(db, code)
    assert found is not None
    assert (found[0], found[1] and found[1].erasure_id) == (asked, begun.erasure_id)
