"""Calls the app with the caller's identity, and answers the refusals that it makes itself."""

from __future__ import annotations

import sys
from collections.abc import Awaitable

from . import _interop
from ._inside import current_request
from .answers import ChangedAnswer, challenge_in_result, is_refusal
from .errors import RequestError
from .operations import RESULT_KEY
from .refusals import CHALLENGER_KEY, Challenger
from .tokens import (
    PROVIDER_KEY,
    SCOPE_KEY,
    AccessToken,
    AnonymousCredentials,
    AnonymousUser,
    User,
)
from .types import ASGIApp, JSONObject, Message, Receive, Scope, Send

_ANONYMOUS_USER = AnonymousUser()
_ANONYMOUS_CREDENTIALS = AnonymousCredentials()


class Entrance:
    """Calls the app for callers that are let in.

    Args:
        provider: the one that has verified the tokens.
        forward_authorization: whether the app sees the Authorization header.
    """

    def __init__(self, provider: object, forward_authorization: bool) -> None:
        self._provider = provider
        self._forward_authorization = forward_authorization

    async def __call__(
        self,
        app: ASGIApp,
        access: AccessToken | None,
        challenger: Challenger,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Call the app on a copy of the scope."""
        bridge = _interop.sdk_bridge() if _interop.SDK_USER_MODULE in sys.modules else None
        inner = dict(scope)
        inner[SCOPE_KEY] = access
        inner[CHALLENGER_KEY] = challenger
        inner[PROVIDER_KEY] = self._provider
        if access is None:
            user = None
            inner["auth"] = _ANONYMOUS_CREDENTIALS
            inner["user"] = _ANONYMOUS_USER
        else:
            user = User(access) if bridge is None else bridge.user(access)
            inner["auth"] = access
            inner["user"] = user
        if not self._forward_authorization:
            inner["headers"] = [each for each in scope["headers"] if each[0] != b"authorization"]
        begun: Message | None = None
        refusals: list[RequestError] = []
        changed: ChangedAnswer | None = None

        request = challenger, scope, send, access

        def tracked(message: Message) -> Awaitable[None]:
            nonlocal begun, changed
            if refusals:
                if changed is None:
                    changed = _changed_answer(refusals[-1], *request, begun)
                return changed(message)
            begun = begun or message
            return send(message)

        restore = current_request.set((access, self._provider, refusals))
        sdk_restore = None if bridge is None else bridge.variable.set(user)
        try:
            await app(inner, receive, tracked)
            if changed is not None and changed.is_refused:
                raise refusals[-1]
        # Mostly InsufficientScope; a tool may also find that a token has been revoked.
        except RequestError as error:
            if begun is not None if changed is None else changed.has_begun:
                raise
            await challenger.refuse(error, scope, receive, send, access=access)
        finally:
            current_request.reset(restore)
            if bridge is not None and sdk_restore is not None:
                bridge.variable.reset(sdk_restore)


def _changed_answer(
    error: RequestError,
    challenger: Challenger,
    scope: Scope,
    send: Send,
    access: AccessToken | None,
    begun: Message | None,
) -> ChangedAnswer:
    """Return the ``send`` for an app in which a tool may have refused the caller."""
    add_challenge = challenge_in_result(challenger.challenge(error))

    def change(answer: JSONObject) -> bool:
        changed = add_challenge(answer)
        if changed:
            challenger.report(error, scope, None if access is None else access.token, access)
        return changed

    # In the form of a result, nothing but the answer is changed.
    refuses = _never if RESULT_KEY in scope else is_refusal
    return ChangedAnswer(send, change, is_refusal=refuses, begun=begun)


def _never(answer: JSONObject) -> bool:
    return False
