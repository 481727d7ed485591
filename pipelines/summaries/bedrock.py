"""Asks a model on Amazon Bedrock (Converse) for a summary's words: one call, bounded in time and length."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from kaimon.base.aws import AwsAwayError, AwsError, aws_client, calling
from kaimon.base.regions import RegionError
from kaimon.base.settings import AwsSettings
from pipelines.settings import ModelSettings
from pipelines.summaries.draft import Draft, Section
from pipelines.summaries.prompt import TOOL, Prompt, tool_config

MAX_ANSWER: Final = 20_000
"""Bytes of an answer's words beyond which nobody looks at them."""
_LATE: Final = frozenset({"ReadTimeoutError", "ConnectTimeoutError"})

Trouble = Literal["timed_out", "throttled", "unavailable", "forbidden", "no_tool", "cut_off", "refusal", "bad_form"]


class ModelError(Exception):
    """The model gave no answer that could be looked at; `answer` is what is known of the call."""

    def __init__(self, trouble: Trouble, answer: Answer | None = None, *, again: bool = True) -> None:
        super().__init__(trouble)
        self.trouble = trouble
        self.answer = answer
        self.again = again


@dataclass(frozen=True)
class Answer:
    """What came back: the words, if they have the right form, and what is kept of them."""

    draft: Draft | None
    digest: str
    tokens_in: int
    tokens_out: int


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    headline: str
    sections: list[Section]


class Bedrock:
    """One model in one region of the United States. The client is made at the first call."""

    def __init__(self, settings: ModelSettings, aws: AwsSettings | None = None) -> None:
        """Take a model that is set."""
        if settings.summary_model is None:
            raise ValueError("no model is set")
        self.model: str = settings.summary_model
        self.settings = settings
        aws = aws or AwsSettings()
        region = settings.summary_model_region or aws.aws_region
        self.aws = aws.model_copy(update={"aws_region": region})
        self._client: Any = None

    def ask(self, prompt: Prompt) -> Answer:
        """Return the model's answer to one prompt; it may still say anything.

        Raises:
            ModelError: none came in time, or none of the right form.
        """
        said = self._within_time(prompt)
        usage = said.get("usage", {})
        message = msgspec.json.encode(said.get("output", {}).get("message", {}), order="sorted")
        answer = Answer(
            None, hashlib.sha256(message).hexdigest(), _count(usage, "inputTokens"), _count(usage, "outputTokens")
        )
        match said.get("stopReason"):
            case "tool_use":
                pass
            case "max_tokens" | "model_context_window_exceeded":
                raise ModelError("cut_off", answer)
            case "content_filtered" | "guardrail_intervened":
                raise ModelError("refusal", answer)
            case None | "malformed_model_output" | "malformed_tool_use":
                raise ModelError("bad_form", answer)
            case _:
                raise ModelError("no_tool", answer)
        if len(message) > MAX_ANSWER:
            raise ModelError("bad_form", answer)
        content = said.get("output", {}).get("message", {}).get("content", [])
        calls = [part["toolUse"] for part in content if "toolUse" in part]
        if len(calls) != 1 or calls[0].get("name") != TOOL:
            raise ModelError("no_tool", answer)
        try:
            words = msgspec.convert(calls[0].get("input"), _Words, strict=True)
        except msgspec.ValidationError as error:
            raise ModelError("bad_form", answer) from error
        draft = Draft("model", words.headline, words.sections)
        return Answer(draft, answer.digest, answer.tokens_in, answer.tokens_out)

    def _within_time(self, prompt: Prompt) -> dict[str, Any]:
        """Call in a thread of its own: boto3's limit is for each piece of an answer, ours for all of it."""
        got: list[dict[str, Any] | BaseException] = []

        def call() -> None:
            try:
                got.append(self._converse(prompt))
            except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
                got.append(error)

        caller = threading.Thread(target=call, name="bedrock", daemon=True)
        caller.start()
        caller.join(self.settings.summary_model_timeout_s)
        if not got:
            raise ModelError("timed_out")
        if isinstance(got[0], BaseException):
            raise _trouble(got[0]) from got[0]
        return got[0]

    def _converse(self, prompt: Prompt) -> dict[str, Any]:
        settings = self.settings
        if self._client is None:
            limit_s = settings.summary_model_timeout_s
            self._client = aws_client("bedrock-runtime", self.aws, read_s=limit_s, attempts=1)
        with calling(f"{self.model} on Amazon Bedrock in {self.aws.aws_region}"):
            said: dict[str, Any] = self._client.converse(
                modelId=self.model,
                system=[{"text": prompt.system}],
                messages=[{"role": "user", "content": [{"text": prompt.text}]}],
                inferenceConfig={"maxTokens": settings.summary_model_max_tokens, "temperature": 0.0},
                toolConfig=tool_config(),
            )
        return said


def _trouble(error: BaseException) -> ModelError:
    """What a failed call is called; anything unexpected is raised as it is."""
    if isinstance(error, AwsAwayError):
        if type(error.__cause__).__name__ in _LATE:
            return ModelError("timed_out")
        return ModelError("throttled" if "Throttl" in error.code else "unavailable")
    if isinstance(error, AwsError):
        if error.code == "ModelTimeoutException":
            return ModelError("timed_out")
        late = error.code in {"ModelNotReadyException", "ModelErrorException"}
        return ModelError("unavailable" if late else "forbidden", again=late)
    if isinstance(error, RegionError):
        return ModelError("forbidden", again=False)
    raise error


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
