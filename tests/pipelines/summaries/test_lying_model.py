"""A model that lies, stalls or fails, behind an endpoint that boto3 really calls: every period is written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pipelines.summaries.document import Facts
from pipelines.summaries.draft import Draft, Writer
from pipelines.summaries.guard import guard
from pipelines.summaries.template import TemplateWriter
from tenancy.breakers import Breaker
from tenancy.database import open_database
from tenancy.wording import allow_model, model_allowed
from tests.converse import Converse, Reply, failing, message, tool_use

from .conftest import MODEL

MUST = [
    "Of what was seen {{coverage.share}} came.",
    "There were {{accounting.lost}} events that are lost, and {{hours.partial}} host-hours are known in part.",
    "What cannot be seen is of {{blind_spots.count}} kinds.",
]
HEAD = "The hosts reported {{events.total}} events."


def lie(sentence: object, headline: object = HEAD) -> Reply:
    return tool_use(headline, *MUST, sentence)


LIES: dict[str, tuple[Reply, str]] = {
    "an invented number": (lie("In all 9000 files were touched by it."), "refused"),
    "a number in words": (lie("In all seventeen files were touched by it."), "refused"),
    "digits of another script": (lie("In all \u0669\u0669 files were touched by it."), "refused"),
    "all quiet": (lie("All quiet on the hosts."), "refused"),
    "reassurance in the headline": (lie("This is what was seen.", f"{HEAD[:-1]}, and there is no concern."), "refused"),
    "reassurance in German": (lie("Alles ist ruhig, niemand muss etwas tun."), "refused"),
    "reassurance in Chinese": (lie("\u4e00\u5207\u6b63\u5e38."), "refused"),
    "a wrong host by alias": (lie("It was on {{entity.matter_1_host}}."), "refused"),
    "a wrong host by name": (lie("It was on the host called dbserver."), "refused"),
    "a host with a number": (lie("It was on web-01 that this was seen."), "refused"),
    "a name in capitals": (lie("It was on DBSERVER that this was seen."), "refused"),
    "a path": (lie("It was in /etc/shadow that this was seen."), "refused"),
    "a foreign reference": (lie("There were {{tenant_b.events}} events."), "refused"),
    "another's value": (lie("Of these {{entity.user_1}} had {{process_1.events}} events on its own."), "refused"),
    "a value with a wrong noun": (lie("There were {{events.total}} hosts that were seen."), "refused"),
    "a link": (lie("See https://evil.example for more of it."), "refused"),
    "a link without a scheme": (lie("See evil.example for more of it."), "refused"),
    "markup": (lie("This was <b>seen</b> on the hosts."), "refused"),
    "an invisible character": (lie("This was\u200b seen on the hosts."), "refused"),
    "silence about what must be said": (tool_use(HEAD, "This is what was seen."), "refused"),
    "decisions of its own": (tool_use(HEAD, *MUST, key="decisions"), "refused"),
    "50 KB": (lie("the hosts were seen " * 2500), "bad_form"),
    "many sentences": (lie(HEAD, HEAD) and tool_use(HEAD, *MUST, *["This is what was seen."] * 30), "refused"),
    "a wrong form": (lie(7), "bad_form"),
    "an unknown field": (
        message(
            {
                "toolUse": {
                    "toolUseId": "t",
                    "name": "write_summary",
                    "input": {"headline": HEAD, "sections": [], "status": "better"},
                }
            }
        ),
        "bad_form",
    ),
    "JSON as a text": (message({"toolUse": {"toolUseId": "t", "name": "write_summary", "input": "{nope"}}), "bad_form"),
    "another tool": (message({"toolUse": {"toolUseId": "t", "name": "send_mail", "input": {}}}), "no_tool"),
    "words beside the tool": (message({"text": "All is well."}, stopReason="end_turn"), "no_tool"),
    "a refusal": (message({"text": "I cannot help with that."}, stopReason="content_filtered"), "refusal"),
    "an answer cut off": (message({"text": "The"}, stopReason="max_tokens"), "cut_off"),
    "an answer that is no JSON": (lambda _: (200, {}, b'{"output": {"mess'), "bad_form"),
    "throttling": (failing(429, "ThrottlingException"), "throttled"),
    "a broken service": (failing(503, "ServiceUnavailableException"), "unavailable"),
    "a model's time-out": (failing(408, "ModelTimeoutException"), "timed_out"),
}


@pytest.mark.parametrize("name", LIES)
def test_every_lie_is_refused_after_one_retry_and_the_template_writes(
    name: str, made: Facts, converse: Converse, model_writer: Callable[..., Writer]
) -> None:
    reply, verdict = LIES[name]
    converse.replies = [reply]
    written = model_writer().word(made)
    assert written.draft == TemplateWriter().write(made)
    assert (written.making.verdict, written.making.attempts) == (verdict, 2)
    assert len(converse.requests) == 2


def test_the_lies_are_refused_for_the_sentence_and_not_for_what_is_around_it(
    made: Facts, converse: Converse, model_writer: Callable[..., Writer]
) -> None:
    converse.replies = [lie("This is what was seen on the hosts.")]
    written = model_writer().word(made)
    assert (written.making.verdict, written.making.reasons, written.making.attempts) == ("accepted", [], 1)
    assert written.draft.writer == "model"
    guard(written.draft, made)


def test_what_is_to_be_decided_stays_in_our_words_above_the_models(
    made: Facts, converse: Converse, model_writer: Callable[..., Writer]
) -> None:
    converse.replies = [lie("This is what was seen on the hosts.")]
    draft = model_writer().word(made).draft
    ours = TemplateWriter().write(made)
    assert draft.sections[0] == ours.sections[0]
    assert [section.key for section in draft.sections] == ["decisions", "activity"]


def test_a_model_that_mends_its_draft_is_accepted_and_told_only_our_reasons(
    made: Facts, converse: Converse, model_writer: Callable[..., Writer]
) -> None:
    secret = "the zebra said so in xyzzy"
    converse.replies = [lie(f"In all 9000 files were touched as {secret}."), lie("This is what was seen.")]
    written = model_writer().word(made)
    assert (written.making.verdict, written.making.attempts) == ("accepted", 2)
    assert (written.making.tokens_in, written.making.tokens_out) == (2400, 300)
    again = converse.raw[1].decode()
    assert "a number outside a placeholder" in again
    assert "zebra" not in again


def test_a_model_that_does_not_answer_is_given_up_in_time(
    made: Facts, converse: Converse, model_writer: Callable[..., Writer]
) -> None:
    converse.replies = [converse.silent]
    written = model_writer(summary_model_timeout_s=0.3).word(made)
    assert (written.draft.writer, written.making.verdict, written.making.attempts) == ("template", "timed_out", 2)


def test_who_may_not_ask_is_not_asked_twice(
    made: Facts, converse: Converse, model_writer: Callable[..., Writer]
) -> None:
    converse.replies = [failing(403, "AccessDeniedException")]
    written = model_writer().word(made)
    assert (written.draft.writer, written.making.verdict, written.making.attempts) == ("template", "forbidden", 1)


def test_boto3_asks_the_set_model_coldly_for_one_tool_with_a_cap(
    made: Facts, converse: Converse, model_writer: Callable[..., Writer]
) -> None:
    model_writer().word(made)
    request = converse.requests[0]
    assert converse.models == [MODEL.replace(":", "%3A")]
    assert request["inferenceConfig"] == {"maxTokens": 1500, "temperature": 0.0}
    assert request["toolConfig"]["toolChoice"] == {"tool": {"name": "write_summary"}}
    assert request["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]["additionalProperties"] is False


def test_the_breaker_opens_for_every_process_and_closes_when_the_model_does_well(
    made: Facts, converse: Converse, home: Any, model_writer: Callable[..., Writer]
) -> None:
    other = open_database()
    now = home.db.clock()
    home.db.clock = other.clock = lambda: now
    converse.replies = [failing(503, "ServiceUnavailableException")]
    try:
        for db in (home.db, other, home.db):
            assert model_writer(db).word(made).making.verdict == "unavailable"
        asked = len(converse.requests)
        for db in (other, home.db):
            assert model_writer(db).word(made).making.verdict == "breaker_open"
        assert len(converse.requests) == asked == 6, "nobody asks while it is open"
        now += timedelta(seconds=901)
        assert model_writer(other).word(made).making.verdict == "unavailable", "one tries"
        assert model_writer().word(made).making.verdict == "breaker_open", "and the next pause begins"
        now += timedelta(seconds=901)
        converse.replies = [lie("This is what was seen.")]
        assert model_writer(other).word(made).making.verdict == "accepted"
        assert model_writer().word(made).making.verdict == "accepted"
    finally:
        other.close()


def test_only_one_tries_after_a_pause_and_a_clock_set_back_does_not_prolong_it(home: Any) -> None:
    now = home.db.clock()
    home.db.clock = lambda: now
    breaker = Breaker(home.db, "somewhere", 1, 60.0)
    assert breaker.may_call()
    breaker.failed()
    assert (breaker.state(), breaker.may_call()) == ("open", False)
    now += timedelta(seconds=61)
    assert breaker.state() == "trying"
    assert [breaker.may_call() for _ in range(3)] == [True, False, False]
    now -= timedelta(days=1)
    assert breaker.may_call()
    breaker.succeeded()
    assert breaker.state() == "closed"


def test_a_tenant_that_switches_the_model_off_is_never_told_of(
    made: Facts, converse: Converse, home: Any, model_writer: Callable[..., Writer]
) -> None:
    allow_model(home.db, "acme", allowed=False)
    assert not model_allowed(home.db, "acme")
    assert model_writer().word(made).making.verdict == "switched_off"
    assert converse.requests == []
    with pytest.raises(ValueError, match="there is no tenant"):
        allow_model(home.db, "nobody", allowed=True)


def test_without_a_model_the_template_says_so(made: Facts, model_writer: Callable[..., Writer]) -> None:
    written = model_writer(summary_model=None).word(made)
    assert isinstance(written.draft, Draft)
    assert (written.draft.writer, written.making.verdict) == ("template", "no_model")
