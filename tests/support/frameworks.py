"""What Django needs of a test: one settings object for the whole process, and header names as
servers forgive them.
"""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.test.utils import override_settings

from tests.support.asgi import App, Message, Receive, Scope, Send

settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="tests")
django.setup()


def django_at(urlconf: Any, app: App) -> App:
    """Return ``app``, a Django app or one around it, with the routes of ``urlconf``, wherever
    Django was set up.
    """

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        async def lower(message: Message) -> None:
            # Django spells header names its own way; our test helper does not forgive that.
            headers = [(name.lower(), value) for name, value in message.get("headers", ())]
            await send({**message, "headers": headers} if headers else message)

        with override_settings(ROOT_URLCONF=urlconf):
            await app(scope, receive, lower)

    return served
