"""Security: what is promised and where that ends, who else processes data, and the agent, signed, to take along."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from dashboards.portal.agent_release import KEY, LIST, Release, UnusableReleaseError, release_in
from dashboards.portal.call import Call, Route
from dashboards.portal.policy import MODEL, PROCESSORS, PROMISES
from kaimon.base.logs import get_logger
from kaimon.base.problems import Problem
from tenancy.wording import model_allowed


def security(call: Call) -> Response:
    """Show the policy, the processors, and the release of the agent if this portal offers one."""
    offered, release = call.settings.portal_agent_folder is not None, None
    try:
        release = _release(call)
    except UnusableReleaseError as error:
        get_logger(__name__).error("agent_release_unusable", error=str(error))
    model = model_allowed(call.db, call.scope.tenant_id)
    return call.page(
        "security.html",
        promises=PROMISES,
        processors=(*PROCESSORS, MODEL) if model else PROCESSORS,
        model=model,
        offered=offered,
        release=release,
        key=KEY,
        list=LIST,
    )


def agent(call: Call) -> Response:
    """Hand out a file of the release.

    Raises:
        Problem: 404, there is none by that name; 503, it is not what was signed.
    """
    name = call.query.get("file", "")
    try:
        release = _release(call)
        body = None if release is None else release.read(name)
    except UnusableReleaseError as error:
        get_logger(__name__).error("agent_release_unusable", error=str(error))
        raise Problem(
            503, "release_unusable", "The release here is not as it was signed", "Nothing of it is handed out."
        ) from error
    if body is None:
        raise Problem(404, "not_found", "Not found", "The page Security lists what there is.")
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type="application/octet-stream", headers=disposition)


def _release(call: Call) -> Release | None:
    folder = call.settings.portal_agent_folder
    return None if folder is None else release_in(folder)


ROUTES: Final = (
    Route("GET", "security", "member", security),
    Route("GET", "security/agent", "member", agent),
)
