"""docs/architecture.md is true: its modules are there, and its order is the one that is
enforced.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "asgi_mcp_auth"
MAP = (ROOT / "docs" / "architecture.md").read_text()


def test_every_module_that_the_map_names_is_there() -> None:
    named = set(re.findall(r"[\w/]+\.py|[\w/]+/(?=[`\s])", MAP))
    assert len(named) > 30
    homes = (PACKAGE, PACKAGE / "server", *(PACKAGE / "server").glob("*/"))
    missing = {name for name in named if not any((home / name).exists() for home in homes)}
    assert missing == set()


def test_the_map_draws_the_rooms_in_the_order_of_their_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (rooms,) = [each for each in contracts["contracts"] if each["id"] == "rooms"]
    layers = [re.sub(r"[()]", "", layer) for layer in rooms["layers"]]
    drawn = re.search(r"    (admin → .*?records)\n", MAP, re.DOTALL)
    assert drawn is not None
    steps = [" ".join(step.split()) for step in drawn[1].split("→")]
    assert steps == [layer for layer in layers if layer != "page_values"]  # a deprecated path
