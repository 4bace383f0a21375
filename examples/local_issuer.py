"""An identity provider on this machine, to try the other examples with: prints what to set, and a
token.

python -m examples.local_issuer
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from threading import Event

from asgi_mcp_auth.testing import Issuer

PORT = os.environ.get("PORT", "8000")
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")
SCOPE = os.environ.get("SCOPE", "notes:read notes:live")
RESOURCES = [BASE_URL, f"{BASE_URL}/mcp", f"{BASE_URL}/notes"]  # what the examples protect

if __name__ == "__main__":
    with Issuer() as idp, suppress(KeyboardInterrupt):
        token = idp.mint(aud=RESOURCES, scope=SCOPE, sub="alice", exp=int(time.time()) + 3600)
        print(
            f"# A token of Alice's for the examples at {BASE_URL}, good for an hour. In another"
            " terminal:"
        )
        print(f"export ISSUER={idp.issuer}")
        print(f"export TOKEN={token}")
        print(
            "# Ctrl-C ends this issuer; its keys, and with them the token, live no longer than it"
            " does.",
            flush=True,
        )
        Event().wait()
