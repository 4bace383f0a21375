"""Write the recording: ``python -m tests.recording``; ``--print`` prints it instead."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from .randomness import make_repeatable

EXCHANGES = Path(__file__).parent / "exchanges.txt"


def main() -> None:
    """Run the script and write down what happens."""
    randomness = make_repeatable()
    from .script import record  # the package, which has to come after

    text = asyncio.run(record(randomness))
    if "--print" in sys.argv:
        sys.stdout.write(text)
    else:
        EXCHANGES.write_text(text)


main()
