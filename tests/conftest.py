"""How every test runs: hypothesis's profiles. Helpers are imported from ``tests.support``, not injected."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline: two shared cores make single examples slow now and then, which says nothing about the code.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile(
    "soak", deadline=None, print_blob=True, max_examples=20_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
