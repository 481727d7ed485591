"""Who words a summary: the model where it may and does well, the template everywhere else, and what is kept of it."""

from __future__ import annotations

from typing import Final

import msgspec

from kaimon.base.logs import get_logger
from kaimon.base.settings import AwsSettings
from pipelines.settings import ModelSettings
from pipelines.summaries.bedrock import Answer, Bedrock, ModelError
from pipelines.summaries.document import Facts
from pipelines.summaries.draft import Draft, Making, Writer, Written
from pipelines.summaries.guard import DraftRefusedError, guard
from pipelines.summaries.prompt import WORDED, make_prompt
from pipelines.summaries.template import TemplateWriter
from tenancy.breakers import Breaker
from tenancy.database import Database
from tenancy.wording import model_allowed

ATTEMPTS: Final = 2


class ModelWriter:
    """Words facts by a model: asked twice at most, each answer guarded, then the template."""

    def __init__(self, model: Bedrock, breaker: Breaker) -> None:
        """Take the model and the breaker that every process shares."""
        self.model = model
        self.breaker = breaker
        self.template = TemplateWriter()

    def word(self, facts: Facts) -> Written:
        """Return a guarded draft: the model's, or else the template's. It is never late by more than two answers."""
        ours = self.template.write(facts)
        making = Making(verdict="breaker_open", model_id=self.model.model)
        if not self.breaker.may_call():
            return _template(ours, facts, making)
        try:
            written = self._asked(facts, ours, making)
        except BaseException:
            self.breaker.failed()
            raise
        if written.making.verdict == "accepted":
            self.breaker.succeeded()
        else:
            self.breaker.failed()
            get_logger(__name__).warning(
                "model_unusable", tenant=facts.tenant, verdict=written.making.verdict, reasons=written.making.reasons
            )
        return written

    def _asked(self, facts: Facts, ours: Draft, making: Making) -> Written:
        reasons: list[str] = []
        for _ in range(ATTEMPTS):
            prompt = make_prompt(facts, reasons)
            making = msgspec.structs.replace(making, prompt_digest=prompt.digest, attempts=making.attempts + 1)
            try:
                answer = self.model.ask(prompt)
                making = _counted(making, answer)
                draft = _whole(answer, ours)
                guard(draft, facts)
            except ModelError as error:
                making = msgspec.structs.replace(_counted(making, error.answer), verdict=error.trouble)
                if not error.again:
                    break
            except DraftRefusedError as error:
                reasons = error.reasons
                making = msgspec.structs.replace(making, verdict="refused", reasons=reasons[:20])
            else:
                return Written(draft, msgspec.structs.replace(making, verdict="accepted", reasons=[]))
        return _template(ours, facts, making)


def writer_for(
    db: Database, tenant: str, settings: ModelSettings | None = None, aws: AwsSettings | None = None
) -> Writer:
    """Return who words this tenant's summaries: a model only where one is set and the tenant lets it."""
    settings = settings or ModelSettings()
    if settings.summary_model is None:
        return TemplateWriter("no_model")
    if not model_allowed(db, tenant):
        return TemplateWriter("switched_off")
    name = f"bedrock/{settings.summary_model}"
    breaker = Breaker(db, name, settings.summary_model_failures, settings.summary_model_pause_s)
    return ModelWriter(Bedrock(settings, aws), breaker)


def _whole(answer: Answer, ours: Draft) -> Draft:
    """Put what is to be decided, which no model words, above the model's sections.

    Raises:
        DraftRefusedError: it worded a section that is not for it.
    """
    draft = answer.draft
    if draft is None or any(section.key not in WORDED for section in draft.sections):
        raise DraftRefusedError(["a section that is not for you"])
    decisions = [section for section in ours.sections if section.key == "decisions"]
    return Draft("model", draft.headline, [*decisions, *draft.sections])


def _template(ours: Draft, facts: Facts, making: Making) -> Written:
    guard(ours, facts)
    return Written(ours, making)


def _counted(making: Making, answer: Answer | None) -> Making:
    if answer is None:
        return msgspec.structs.replace(making, response_digest=None)
    return msgspec.structs.replace(
        making,
        response_digest=answer.digest,
        tokens_in=making.tokens_in + answer.tokens_in,
        tokens_out=making.tokens_out + answer.tokens_out,
    )
