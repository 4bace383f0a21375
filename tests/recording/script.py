"""All scenes, in order."""

from __future__ import annotations

from .randomness import Randomness
from .recorder import Recorder
from .reports import listen
from .scenes import (
    authorize,
    clients,
    descriptions,
    documents,
    endpoints,
    pages,
    proxy,
    registration,
    resource,
    tokens,
    verifiers,
)

SCENES = (
    documents,
    registration,
    descriptions,
    authorize,
    pages,
    tokens,
    clients,
    endpoints,
    proxy,
    resource,
    verifiers,
)


async def record(randomness: Randomness) -> str:
    """Run every scene; return the recording."""
    recorder = Recorder(randomness, listen())
    for module in SCENES:
        for title, scene in module.SCENES.items():
            recorder.scene(title)
            await scene(recorder)
    repeated = {each for each in recorder.sentences if recorder.sentences.count(each) > 1}
    assert not repeated, f"two exchanges with one sentence: {repeated}"
    return recorder.text()
