"""Client authentication: secrets in the header and in the body, and public clients."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.server.clients.authentication import ASSERTION_TYPE
from asgi_mcp_auth.server.records import hash_of
from tests.support.authorization_server import (
    CONFIDENTIAL,
    ClientOf,
    Server,
    basic,
    deploy,
    memory_store,
)
from tests.support.token_endpoint import Calls, assert_refused, tokens_of

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("AS-33")]

SECRET = CONFIDENTIAL["client_secret"]
POST = {**CONFIDENTIAL, "client_id": "poster", "token_endpoint_auth_method": "client_secret_post"}
PUBLIC = {"client_id": "desktop", "redirect_uris": ["http://127.0.0.1/callback"]}
# its header ends in one =, so its last character has spare bits
PADDED = {**CONFIDENTIAL, "client_id": "other1"}
OPERATORS = Registration(clients=[CONFIDENTIAL, POST, PADDED, PUBLIC])
CREDENTIALS = {"grant_type": "client_credentials"}


async def token(server: Server, headers: dict[str, str] | None = None, **form: str | None) -> Any:
    return await server.token(headers=headers, **{**CREDENTIALS, **form})


async def refuses(
    server: Server,
    reason: str,
    headers: dict[str, str] | None = None,
    error: str = "invalid_client",
    **form: str | None,
) -> Any:
    """Check that a request is refused and why, and that a good one gets in before and after it."""
    tokens_of(await token(server, basic("service", SECRET)))
    server.reasons()
    response = await token(server, headers, **form)
    assert_refused(response, error, 401 if error == "invalid_client" else 400)
    assert server.reasons() == [reason]
    used_header = any(name.lower() == "authorization" for name in headers or {})
    wanted = 'Basic realm="oauth"' if error == "invalid_client" and used_header else None
    assert response.header("www-authenticate") == wanted, "RFC 6749 §5.2"
    tokens_of(await token(server, basic("service", SECRET)))
    return response


def raw_basic(credentials: str | bytes, scheme: str = "Basic") -> dict[str, str]:
    data = credentials if isinstance(credentials, bytes) else credentials.encode()
    return {"Authorization": f"{scheme} {base64.b64encode(data).decode()}"}


# ------------------------------------------------------------------------------------------ secrets


@pytest.mark.rule("AS-75")
async def test_both_ways_to_show_a_secret_work() -> None:
    """Public clients work too."""
    async with deploy(registration=OPERATORS) as server:
        tokens_of(await token(server, basic("service", SECRET)))
        tokens_of(await token(server, basic("service", SECRET), client_id="service"))
        tokens_of(await token(server, client_id="poster", client_secret=SECRET))
        await server.known(PUBLIC).sign_in()


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_client_that_registered_itself_uses_the_secret_that_it_got(method: str) -> None:
    async with deploy() as server:
        client = await server.register(token_endpoint_auth_method=method)
        secret = client.information["client_secret"]
        assert set(client.client_id + secret) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        ), "the TypeScript SDK encodes nothing"
        form = {
            "grant_type": "authorization_code",
            "code": await client.code(),
            "code_verifier": client.verifier,
        }
        if method == "client_secret_basic":
            tokens_of(await server.token(headers=basic(client.client_id, secret), **form))
        else:
            tokens_of(await server.token(client_id=client.client_id, client_secret=secret, **form))


SECRETS: dict[str, str | None] = {
    "none": None,
    "an empty one": "",
    "a wrong one": "x" * 40,
    "all but the last character": SECRET[:-1],
    "one more character": SECRET + "x",
    "another case": SECRET.upper(),
    "its hash": hash_of(SECRET),
    "a space behind it": SECRET + " ",
    "a NUL behind it": SECRET + "\0",
    "not ASCII": "é" * 40,
    "10,000 characters": "x" * 10_000,
}


@pytest.mark.case("Z62")
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
async def test_a_confidential_client_has_to_show_its_very_secret(secret: str | None) -> None:
    async with deploy(registration=OPERATORS) as server:
        body = await refuses(
            server, "secret" if secret else "auth_method", client_id="poster", client_secret=secret
        )
        if secret is None:
            header = await refuses(server, "secret", raw_basic("service:"))
        else:
            header = await refuses(server, "secret", raw_basic(f"service:{quote_plus(secret)}"))
        assert header.json() == body.json(), "what was wrong is for the log"


@pytest.mark.case("Z62")
async def test_another_client_s_secret_is_a_wrong_one() -> None:
    async with deploy(registration=OPERATORS) as server:
        client = await server.register(token_endpoint_auth_method="client_secret_post")
        secret = client.information["client_secret"]
        await refuses(server, "secret", client_id="poster", client_secret=secret)
        await refuses(server, "secret", basic("service", secret))


@pytest.mark.case("Z63")
async def test_two_methods_at_once_are_a_malformed_request() -> None:
    async with deploy(registration=OPERATORS) as server:
        good = basic("service", SECRET)
        assertion = {"client_assertion": "a.b.c", "client_assertion_type": ASSERTION_TYPE}
        for headers, form in (
            (good, {"client_secret": SECRET}),
            (good, {"client_id": "service", "client_secret": SECRET}),
            (good, assertion),
            (None, {"client_id": "poster", "client_secret": SECRET, **assertion}),
            (good, {"client_secret": "x", **assertion}),
            (raw_basic("x:y"), {"client_id": "poster", "client_secret": SECRET}),
            ({"Authorization": "Bearer x"}, {"client_id": "poster", "client_secret": SECRET}),
        ):
            await refuses(server, "invalid_request", headers, "invalid_request", **form)
        both = [("Authorization", value["Authorization"]) for value in (good, good)]
        response = await server.call("POST", "/token", headers=both, form=CREDENTIALS)
        assert_refused(response, "invalid_request")


@pytest.mark.case("Z63")
async def test_a_request_that_names_two_clients_is_malformed() -> None:
    async with deploy(registration=OPERATORS) as server:
        await refuses(
            server,
            "invalid_request",
            basic("service", SECRET),
            "invalid_request",
            client_id="poster",
        )


CUMBERSOME = {
    **CONFIDENTIAL,
    "client_id": "a:b c%+/é",
    "client_secret": "p:q r%20+&=/?é-" + "x" * 32,
}


@pytest.mark.case("Z64")
async def test_both_halves_of_the_header_are_form_encoded() -> None:
    """RFC 6749 §2.3.1: that is how an id with a colon, or a secret with an umlaut, gets into the
    header.
    """
    async with deploy(registration=Registration(clients=[CUMBERSOME])) as server:
        client_id, secret = CUMBERSOME["client_id"], CUMBERSOME["client_secret"]
        for encode in (quote_plus, lambda text: quote(text, safe="")):
            headers = raw_basic(f"{encode(client_id)}:{encode(secret)}")
            tokens_of(await token(server, headers))
            tokens_of(await token(server, headers, client_id=client_id))
        for half in (client_id, quote_plus(client_id)):
            response = await token(server, raw_basic(f"{half}:{secret}"))
            assert_refused(response, "invalid_client", 401)


@pytest.mark.case("Z64")
async def test_ids_and_secrets_of_plain_characters_look_the_same_encoded_or_not() -> None:
    async with deploy(registration=OPERATORS) as server:
        tokens_of(await token(server, raw_basic(f"service:{quote_plus(SECRET)}")))
        tokens_of(await token(server, raw_basic(f"%73ervice:{'%73' + SECRET[1:]}")))


GOOD = base64.b64encode(f"service:{SECRET}".encode()).decode()
WITH_SPARE_BITS = base64.b64encode(f"other1:{SECRET}".encode()).decode()
ODD_BITS = WITH_SPARE_BITS[:-2] + chr(ord(WITH_SPARE_BITS[-2]) + 1) + "="
HEADERS = {
    "no colon": ("Basic " + base64.b64encode(b"service").decode(), "no_credentials"),
    "only a colon": ("Basic " + base64.b64encode(b":").decode(), "unknown_client"),
    "nothing": ("Basic ", "no_credentials"),
    "no value": ("Basic", "no_credentials"),
    "an empty header": ("", "auth_method"),
    "not base64": ("Basic !!!!", "no_credentials"),
    "base64url": (
        "Basic " + base64.urlsafe_b64encode(b"service:\xff\xff\xff\xfe").decode(),
        "no_credentials",
    ),
    "no padding": (
        "Basic " + base64.b64encode(b"service:xy").decode().rstrip("="),
        "no_credentials",
    ),
    "more padding": (f"Basic {GOOD}=", "no_credentials"),
    "other bits in the last character": (f"Basic {ODD_BITS}", "no_credentials"),
    "a space inside": (f"Basic {GOOD[:8]} {GOOD[8:]}", "no_credentials"),
    "two of them": (f"Basic {GOOD}, Basic {GOOD}", "no_credentials"),
    "a NUL in the id": (
        "Basic " + base64.b64encode(b"service\0:" + SECRET.encode()).decode(),
        "unknown_client",
    ),
    "not UTF-8": (
        "Basic " + base64.b64encode(b"service:\xff\xfe" + SECRET.encode()).decode(),
        "no_credentials",
    ),
    "another scheme": (f"Digest {GOOD}", "auth_method"),
    "a Bearer token": ("Bearer abc", "auth_method"),
    "a longer scheme": (f"Basics {GOOD}", "auth_method"),
    "a tab": (f"Basic\t{GOOD}", "auth_method"),
    "60,000 characters": ("Basic " + base64.b64encode(b"x" * 60_000).decode(), "no_credentials"),
}


@pytest.mark.case("Z64")
@pytest.mark.parametrize(("header", "reason"), HEADERS.values(), ids=HEADERS)
async def test_a_header_that_says_nothing_is_refused(header: str, reason: str) -> None:
    async with deploy(registration=OPERATORS) as server:
        await refuses(server, reason, {"Authorization": header})


@pytest.mark.case("Z64")
async def test_base64_has_one_spelling() -> None:
    """A decoder that does not look at the spare bits reads the same in both."""
    assert base64.b64decode(ODD_BITS) == base64.b64decode(WITH_SPARE_BITS)
    async with deploy(registration=OPERATORS) as server:
        tokens_of(await token(server, {"Authorization": f"Basic {WITH_SPARE_BITS}"}))


@pytest.mark.case("Z64")
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
@pytest.mark.parametrize("spaces", [" ", "   "])
async def test_the_scheme_has_no_case(scheme: str, spaces: str) -> None:
    async with deploy(registration=OPERATORS) as server:
        tokens_of(await token(server, {"Authorization": f"{scheme}{spaces}{GOOD}"}))


@pytest.mark.case("Z65")
async def test_a_public_client_that_sends_a_secret_is_refused() -> None:
    async with deploy(registration=OPERATORS) as server:
        await refuses(server, "secret", client_id="desktop", client_secret="x" * 40)
        await refuses(server, "secret", basic("desktop", "x" * 40))
        await refuses(server, "secret", basic("desktop", ""))


@pytest.mark.case("Z66")
async def test_a_client_is_held_to_its_method() -> None:
    async with deploy(registration=OPERATORS) as server:
        await refuses(server, "auth_method", basic("poster", SECRET))
        await refuses(server, "auth_method", client_id="service", client_secret=SECRET)
        await refuses(server, "auth_method", client_id="service")
        await refuses(server, "auth_method", client_id="poster")
        assertion = {"client_assertion": "a.b.c", "client_assertion_type": ASSERTION_TYPE}
        for client_id in ("service", "poster", "desktop"):
            await refuses(server, "auth_method", client_id=client_id, **assertion)


async def test_a_request_without_a_client_is_refused() -> None:
    async with deploy(registration=OPERATORS) as server:
        for form in (
            {},
            {"client_secret": SECRET},
            {"client_id": ""},
            {"client_id": "", "client_secret": SECRET},
        ):
            await refuses(server, "no_credentials", **form)


@pytest.mark.case("Z68")
@pytest.mark.parametrize(
    "client_id",
    [
        "nobody",
        "x" * 2048,
        "x" * 2049,
        "service ",
        "Service",
        "a\0b",
        "\r\n",
        "\u202e",
        "service\n",
    ],
)
async def test_an_unknown_client_is_refused_in_the_words_of_a_wrong_secret(
    client_id: str,
) -> None:
    async with deploy(registration=OPERATORS) as server:
        wrong = await refuses(server, "secret", client_id="poster", client_secret="x" * 40)
        unknown = await refuses(
            server, "unknown_client", client_id=client_id, client_secret="x" * 40
        )
        public = await refuses(server, "unknown_client", client_id=client_id)
        assert wrong.body == unknown.body == public.body
        assert wrong.headers == unknown.headers == public.headers


@pytest.mark.case("Z67", "Z68")
async def test_one_digest_is_compared_in_constant_time_whatever_is_known_of_the_client() -> None:
    """How long that takes in the end is measured by ``make soak``:
    tests/server/token/test_timing.py.
    """
    async with deploy() as server:
        known = await server.register(token_endpoint_auth_method="client_secret_post")
        public = await server.register()
        right: str = known.information["client_secret"]
        seen = []
        for client_id, secret in (
            (known.client_id, "x" * len(right)),
            (known.client_id, right[:-1] + "!"),
            (known.client_id, right),
            (public.client_id, "x" * len(right)),
            ("f" * len(known.client_id), "x" * len(right)),
        ):
            with Calls("compare_digest", "openssl_sha256") as counts:
                await token(server, client_id=client_id, client_secret=secret)
            seen.append(counts)
        assert seen == [seen[0]] * len(seen)
        assert seen[0]["compare_digest"] == 1
        assert seen[0]["openssl_sha256"] >= 2, "of the secret, and of the client's id"


@pytest.mark.case("Z70")
@pytest.mark.parametrize(("after", "good"), [(99, True), (99.5, True), (100, False), (101, False)])
async def test_a_secret_may_expire(after: float, good: bool) -> None:
    """No setting makes such a secret yet; a record may say so (RFC 7591 §3.2.1)."""
    async with deploy() as server:
        client = await server.register(token_endpoint_auth_method="client_secret_basic")
        ends_at = int(server.clock.time()) + 100
        clients = server.provider._server.clients
        await clients.update(
            client.client_id, lambda known: replace(known, secret_expires_at=ends_at)
        )
        server.clock.advance(after)
        headers = basic(client.client_id, client.information["client_secret"])
        response = await server.call("POST", "/revoke", headers=headers, form={"token": "x"})
        if good:
            assert response.status == 200
            return
        assert_refused(response, "invalid_client", 401)
        wrong = await server.call(
            "POST", "/revoke", headers=basic(client.client_id, "x" * 40), form={"token": "x"}
        )
        assert wrong.body == response.body
        assert server.reasons() == ["secret_expired", "secret"]


@pytest.mark.rule("AS-74")
async def test_a_client_s_hash_is_no_secret_and_its_secret_is_kept_nowhere() -> None:
    store = memory_store()
    async with deploy(store=store) as server:
        client = await server.register(token_endpoint_auth_method="client_secret_basic")
        found = await server.provider.admin.get_client(client.client_id)
        assert found is not None
        assert client.information["client_secret"] not in repr(found)
        assert found.secret_hash == hash_of(client.information["client_secret"])


async def test_one_client_cannot_use_another_s_grant_with_its_own_good_credentials() -> None:
    async with deploy(registration=OPERATORS) as server:
        public, confidential = server.known(PUBLIC), server.known(CONFIDENTIAL)
        tokens = await public.sign_in()
        assert_refused(await confidential.refresh(tokens["refresh_token"]), "invalid_grant")
        assert server.reasons() == ["refresh_client"]
        impostor = ClientOf(server, {**CONFIDENTIAL, "client_id": "desktop"})
        assert_refused(await impostor.refresh(tokens["refresh_token"]), "invalid_client", 401)
        tokens_of(await public.refresh(tokens["refresh_token"]))
