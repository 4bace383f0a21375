"""Outage: which failures are news."""

from __future__ import annotations

from asgi_mcp_auth._outage import Outage
from asgi_mcp_auth.testing import FrozenClock


def test_an_outage_is_news_when_it_begins_and_when_it_ends() -> None:
    outage = Outage()
    assert outage.reason is None
    assert not outage.recovered()
    assert outage.failed("HTTP 503")
    assert not outage.failed("no answer")
    assert outage.reason == "no answer"
    assert outage.recovered()
    assert outage.reason is None
    assert not outage.recovered()
    assert outage.failed("no answer")


def test_another_reason_is_news_on_request() -> None:
    outage = Outage(each_reason=True)
    seen = [outage.failed(reason) for reason in ("a", "a", "b", "a", "a")]
    assert seen == [True, False, True, True, False]
    assert outage.recovered()
    assert outage.failed("a")


def test_a_failure_soon_after_the_last_report_begins_no_outage() -> None:
    clock = FrozenClock()
    outage = Outage(pause_seconds=60, clock=clock)
    assert outage.failed("a")
    assert outage.recovered()
    clock.advance(59.5)
    assert not outage.failed("a")
    assert outage.reason is None
    assert not outage.recovered()
    clock.advance(0.5)
    assert outage.failed("a")
