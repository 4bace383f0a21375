"""Takes the Python out of the project's pages and runs it, as a reader would who pastes one block
below the other.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import uvicorn

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for place in (".", "docs", "docs/adr", "examples")
    for path in ROOT.glob(f"{place}/*.md")
)
PLACEHOLDER_ISSUER = "https://your-issuer.example.com"
PLACEHOLDER_PARTNERS = "https://partners.example.com"
BASE_URL = "https://mcp.example.com"

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def python_blocks(page: str) -> list[str]:
    """Return the code of each block, moved down to its own line, so that tracebacks tell the page's
    lines.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        "\n" * text.count("\n", 0, match.start(1)) + match[1] for match in _BLOCK.finditer(text)
    ]


def run_page(
    page: str, issuer: str, *, partners: str = PLACEHOLDER_PARTNERS, base_url: str = BASE_URL
) -> ModuleType:
    """Run every block of a page as one module and return that, the placeholders of the page
    replaced.
    """
    return run_blocks(python_blocks(page), issuer, page=page, partners=partners, base_url=base_url)


def run_blocks(
    blocks: Sequence[str],
    issuer: str,
    *,
    page: str = "README.md",
    partners: str = PLACEHOLDER_PARTNERS,
    base_url: str = BASE_URL,
) -> ModuleType:
    """Run these blocks of a page as one module and return that, the placeholders replaced."""
    module = ModuleType(f"pages_{re.sub(r'[^a-z]', '_', page.lower())}")
    sys.modules[module.__name__] = module  # frameworks look annotations up there
    host = BASE_URL.removeprefix("https://")
    for block in blocks:
        code = block.replace(PLACEHOLDER_ISSUER, issuer).replace(PLACEHOLDER_PARTNERS, partners)
        code = code.replace(BASE_URL, base_url).replace(host, base_url.partition("://")[2])
        exec(compile(code, page, "exec"), vars(module))  # noqa: S102  # our own pages
    return module


@contextmanager
def serving_page(page: str, issuer: str) -> Iterator[str]:
    """Run a page for a free port of this machine, and its app there; yield the base URL."""
    with serving_blocks(python_blocks(page), issuer, page) as base_url:
        yield base_url


@contextmanager
def serving_blocks(blocks: Sequence[str], issuer: str, page: str = "README.md") -> Iterator[str]:
    """Run these blocks of a page for a free port of this machine, and their app there; yield the
    base URL.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = run_blocks(blocks, issuer, page=page, base_url=base_url).app
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), f"the app of {page} did not start"
                time.sleep(0.01)
            yield base_url
        finally:
            server.should_exit = True
            thread.join(10)
