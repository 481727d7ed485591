from __future__ import annotations

import pytest
from pydantic import ValidationError

from ingest.admission import Admission
from ingest.settings import MIB, IngestSettings
from kaimon.base.problems import Problem


def test_what_is_not_there_is_refused_with_a_time_to_come_back() -> None:
    admission = Admission(100)
    held = admission.reserve(60)
    with pytest.raises(Problem) as refused:
        admission.reserve(41)
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    assert refused.value.headers["Retry-After"] == "1"
    with pytest.raises(Problem):
        held.resize(101)
    assert admission.taken == 60
    held.release()
    held.release()
    assert admission.taken == 0


def test_an_error_gives_back_what_was_not_handed_over() -> None:
    admission = Admission(100)
    with pytest.raises(KeyError), admission.reserve(60):
        raise KeyError
    assert admission.taken == 0
    held = admission.reserve(60)
    held.hand_over()
    with pytest.raises(KeyError), held:
        raise KeyError
    assert admission.taken == 60


def test_settings_that_would_never_let_the_largest_batch_in_are_refused() -> None:
    with pytest.raises(ValidationError, match="admission_bytes"):
        IngestSettings(admission_bytes=100 * MIB)


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="tls_certificate and tls_key"):
        IngestSettings(tls_certificate="server.pem")


def test_a_tenant_has_its_share_and_no_more_and_its_neighbours_have_theirs() -> None:
    admission = Admission(100, share=40)
    held = admission.reserve(30, "flood")
    with pytest.raises(Problem) as refused:
        admission.reserve(11, "flood")
    assert (refused.value.status, refused.value.code) == (429, "tenant_busy")
    assert int(refused.value.headers["Retry-After"]) > 0
    admission.reserve(40, "calm").release()
    # What is in may grow while it is parsed; only then is nothing more let in.
    held.resize(90)
    with pytest.raises(Problem):
        admission.reserve(1, "flood")
    held.release()
    assert admission.reserve(40, "flood").size == 40
