"""Rules for who may sign in: look-alike addresses, and claims split between two sources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth.proxy import UpstreamIdentity, UpstreamRules
from asgi_mcp_auth.proxy.admission import find_refusal
from asgi_mcp_auth.proxy.domains import ascii_domain
from asgi_mcp_auth.proxy.identity import merged
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import answer_of
from tests.support.proxy import come_back, depart, deploy_proxy
from tests.support.rows import rows
from tests.support.upstream import Upstream

GOOGLE = "https://accounts.google.com"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An identity provider whose clock stands still."""
    with Upstream(clock=FrozenClock()) as provider:
        yield provider


def may_come_in(domain: str, *, issuer: str = "https://idp.example.com", **claims: Any) -> bool:
    """Return whether a person with these claims may sign in where this domain is allowed."""
    identity = UpstreamIdentity(issuer=issuer, subject="s", claims=claims)
    return find_refusal(identity, UpstreamRules(allowed_domains=[domain])) is None


@pytest.mark.case("P19")
@rows(
    ("allowed", "domain"),
    [
        ("kelvin.com", "\u212aelvin.com"),  # the Kelvin sign, which lower() makes a k
        ("strasse.de", "straße.de"),  # another name, which casefold() makes this one
        ("strasse.de", "STRAẞE.de"),
        ("service.com", "\u017fervice.com"),  # a long s
        ("example.com", "\uff45xample.com"),  # full width
        ("example.com", "example\u3002com"),  # a full stop that IDNA takes for a dot
        ("example.com", "exam\u00adple.com"),  # a soft hyphen, which disappears
        ("example.com", "exam\u200bple.com"),
        ("office.com", "oﬃce.com"),  # one letter
        ("example.com", "example.com\u0131"),
        ("xn--mnchen-3ya.de", "mu\u0308nchen.de"),  # not composed
        ("example.com", "example.com."),
        ("example.com", "example.com\n"),
        ("example.com", "example.com "),
        ("example.com", ""),
        ("example.com", "a" * 300 + ".example.com"),
        ("paypal.com", "p\u0430ypal.com"),  # Cyrillic
        ("example.com", "\ud800example.com"),
    ],
)
def test_a_domain_that_only_looks_like_an_allowed_one_is_another(allowed: str, domain: str) -> None:
    assert not may_come_in(allowed, email=f"a@{domain}", email_verified=True)
    assert not may_come_in(allowed, issuer=GOOGLE, hd=domain)


@pytest.mark.parametrize("verified", [False, "false"])
def test_an_unverified_address_affects_no_other_claim(
    verified: object,
) -> None:
    identity = UpstreamIdentity(
        issuer="https://idp.example.com",
        subject="s",
        claims={"groups": ["staff"], "email": "a@example.com", "email_verified": verified},
    )
    assert find_refusal(identity, UpstreamRules(allowed_claims={"groups": ["staff"]})) is None
    assert (
        find_refusal(identity, UpstreamRules(allowed_claims={"email": ["a@example.com"]}))
        is not None
    )


@rows(
    ("allowed", "domain"),
    [
        ("example.com", "example.com"),
        ("Example.COM", "eXample.com"),
        ("abcdefghijklmnopqrstuvwxyz.com", "ABCDEFGHIJKLMNOPQRSTUVWXYZ.com"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("XN--Mnchen-3ya.de", "münchen.de"),
        ("xn--mnchen-3ya.de", "mail.münchen.de".removeprefix("mail.")),
        ("xn--strae-oqa.de", "xn--strae-oqa.de"),
        ("xn--fsqu00a.xn--0zwm56d", "例子.测试"),
    ],
)
def test_the_same_domain_is_the_same_in_each_of_its_forms(allowed: str, domain: str) -> None:
    assert may_come_in(allowed, email=f"a@{domain}", email_verified=True)


@pytest.mark.parametrize(
    ("domain", "instead"),
    [
        ("münchen.de", "'xn--mnchen-3ya.de'"),
        ("straße.de", "'xn--…'"),
        ("\u212aelvin.com", "'xn--…'"),
    ],
)
def test_an_allowed_domain_is_written_as_the_dns_has_it(domain: str, instead: str) -> None:
    with pytest.raises(ConfigurationError, match="allowed_domains") as caught:
        UpstreamRules(allowed_domains=["example.com", domain])
    assert str(caught.value).endswith(f"write the name as the DNS has it, {instead}")


@rows(("length", "fits"), [(0, False), (1, True), (253, True), (254, False)])
def test_a_domain_has_a_length(length: int, fits: bool) -> None:
    name = ("a" * 60 + ".") * 4 + "b" * 9
    name = (name + "c" * 10)[:length]
    assert (ascii_domain(name) is not None) == fits


@rows(
    ("issuer", "welcome"),
    [
        (GOOGLE, True),
        ("accounts.google.com", True),
        ("https://idp.example.com", False),
        ("https://accounts.google.com/", False),
        ("https://accounts.google.com.evil.example", False),
        ("http://accounts.google.com", False),
    ],
)
def test_the_organisation_of_a_google_account_is_googles_to_name(
    issuer: str, welcome: bool
) -> None:
    """`hd` is an unknown claim elsewhere, and people may be able to set it."""
    assert may_come_in("example.com", issuer=issuer, hd="example.com") == welcome


@pytest.mark.case("P19")
@rows("verified", [False, "false", True, "true", None])
def test_an_address_that_is_not_verified_is_not_among_allowed_claims(verified: object) -> None:
    rules = UpstreamRules(allowed_claims={"email": ["a@example.com"]})
    claims = {"email": "a@example.com", "email_verified": verified}
    refusal = find_refusal(
        UpstreamIdentity(issuer="https://idp.example.com", subject="s", claims=claims), rules
    )
    assert (refusal is not None) == (verified in (False, "false"))


OURS, THEIRS = "alice@example.com", "alice@example.org"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("id_token", "userinfo", "welcome"),
    [
        # one source has half of it
        ({"email_verified": True}, {"email": OURS}, False),
        ({"email_verified": True}, {"email": OURS, "email_verified": False}, False),
        ({"email": OURS}, {"email_verified": True}, False),
        ({"email": OURS}, {"email": THEIRS, "email_verified": True}, False),
        ({"email": OURS, "email_verified": False}, {"email_verified": True}, False),
        ({"email": OURS, "email_verified": False}, {"email": OURS, "email_verified": True}, False),
        ({"email": THEIRS, "email_verified": True}, {"email": OURS, "email_verified": True}, False),
        ({"email_verified": True}, {}, False),
        # one source has all of it
        ({"email": OURS, "email_verified": True}, {}, True),
        ({"email": OURS, "email_verified": True}, {"email_verified": False}, True),
        ({"email": OURS, "email_verified": True}, {"email": THEIRS, "email_verified": True}, True),
        ({}, {"email": OURS, "email_verified": True}, True),
        ({"email": THEIRS}, {"email": OURS, "email_verified": True}, True),
        ({"email_verified": False}, {"email": OURS, "email_verified": True}, True),
    ],
)
async def test_an_address_and_the_word_that_it_is_verified_come_from_one_source(
    upstream: Upstream, id_token: dict[str, Any], userinfo: dict[str, Any], welcome: bool
) -> None:
    """OpenID Connect Core §5.1: `email_verified` speaks of the address beside it."""
    upstream.id_token = id_token
    upstream.answer("/userinfo", json.dumps({"sub": "alice", **userinfo}).encode())
    rules = UpstreamRules(userinfo=True, allowed_domains=["example.com"])
    async with deploy_proxy(upstream, upstream=rules) as server:
        client, browser = await server.register(), server.browser()
        response = await come_back(browser, upstream.approve(await depart(browser, client)))
        assert (
            response.status == 303 and "code" in answer_of(response.header("location") or "")
        ) == welcome


@rows(
    ("id_token", "userinfo", "told"),
    [
        ({"email": OURS}, {"email": THEIRS}, {"email": OURS}),
        ({"email": OURS}, {"email_verified": True}, {"email": OURS}),
        ({}, {"email": THEIRS}, {"email": THEIRS}),
        ({"email_verified": True}, {"email": THEIRS}, {"email": THEIRS}),
        ({"email": None}, {"email": THEIRS, "email_verified": None}, {"email": THEIRS}),
        ({"email_verified": True}, {}, {}),
        (
            {"name": None, "groups": ["a"]},
            {"name": "b", "groups": ["b"], "x": 1},
            {"name": None, "groups": ["a"], "x": 1},
        ),
    ],
)
def test_nothing_is_left_of_half_a_claim(
    id_token: dict[str, Any], userinfo: dict[str, Any], told: dict[str, Any]
) -> None:
    assert merged(id_token, userinfo) == told


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "more", [{"azp": "the-proxy"}, {"azp": "another"}, {"at_hash": "AAAA"}, {"nonce": "n"}]
)
async def test_the_userinfo_endpoint_says_nothing_of_the_id_token(
    upstream: Upstream, more: dict[str, Any]
) -> None:
    """Its word that we are the authorized party would admit an ID token that names another."""
    upstream.answer("/userinfo", json.dumps({"sub": "alice", **more}).encode())
    rules = UpstreamRules(userinfo=True)
    for theirs, welcome in (({"azp": "another"}, False), ({}, True)):
        upstream.id_token = {"aud": ["the-proxy", "another"], **theirs}
        async with deploy_proxy(upstream, upstream=rules) as server:
            client, browser = await server.register(), server.browser()
            response = await come_back(browser, upstream.approve(await depart(browser, client)))
            assert ("code" in answer_of(response.header("location") or "")) == welcome
