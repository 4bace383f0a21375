"""Client authentication: secrets in the header and in the body, public clients; then the edges:
words, numbers, names of records.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from asgi_mcp_auth._http import PublicFetcher
from asgi_mcp_auth.errors import InvalidClient, MalformedRequest
from asgi_mcp_auth.server import Client, RateLimits, Registration
from asgi_mcp_auth.server.clients.authentication import (
    ASSERTION_TYPE,
    MAX_BASIC_BYTES,
    USED_ASSERTIONS,
    ClientAuthenticator,
    Credentials,
    parse_client_credentials,
)
from asgi_mcp_auth.server.clients.keys import ClientKeys
from asgi_mcp_auth.server.clients.registry import dummy_client
from asgi_mcp_auth.server.records import hash_of
from asgi_mcp_auth.server.web import EndpointRequest, Parameters
from asgi_mcp_auth.testing import FrozenClock
from tests.support.assertions import ABSENT, Robot, key_of, key_set
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    ClientOf,
    Server,
    basic,
    deploy,
    memory_store,
)
from tests.support.rows import rows
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
@rows("secret", SECRETS.values(), ids=SECRETS)
async def test_a_confidential_client_has_to_show_its_very_secret(secret: str | None) -> None:
    async with deploy(registration=OPERATORS) as server:
        body = await refuses(
            server, "secret" if secret else "auth_method", client_id="poster", client_secret=secret
        )
        header = await refuses(
            server,
            "secret" if secret else "auth_method",
            raw_basic(f"service:{quote_plus(secret or '')}"),
        )
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
@rows(("header", "reason"), HEADERS.values(), ids=HEADERS)
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
@rows("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
@rows("spaces", [" ", "   "])
async def test_the_scheme_has_no_case(scheme: str, spaces: str) -> None:
    async with deploy(registration=OPERATORS) as server:
        tokens_of(await token(server, {"Authorization": f"{scheme}{spaces}{GOOD}"}))


@pytest.mark.case("Z65")
async def test_a_public_client_that_sends_a_secret_is_refused() -> None:
    async with deploy(registration=OPERATORS) as server:
        await refuses(server, "secret", client_id="desktop", client_secret="x" * 40)
        await refuses(server, "secret", basic("desktop", "x" * 40))


@pytest.mark.rule("AS-87")
@pytest.mark.parametrize("in_body", [{}, {"client_id": "desktop"}, {"client_secret": ""}])
async def test_basic_with_an_empty_password_names_a_public_client(in_body: dict[str, str]) -> None:
    async with deploy(registration=OPERATORS) as server:
        client, header = server.known(PUBLIC), basic("desktop", "")
        form = {"grant_type": "authorization_code", "code_verifier": client.verifier, **in_body}
        tokens = tokens_of(await server.token(headers=header, code=await client.code(), **form))
        renewal = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        renewed = tokens_of(await server.token(headers=header, **renewal, **in_body))
        response = await server.call(
            "POST", "/revoke", headers=header, form={"token": renewed["refresh_token"]} | in_body
        )
        assert response.status == 200


@pytest.mark.rule("AS-87")
async def test_basic_with_an_empty_password_proves_nothing() -> None:
    async with deploy(registration=OPERATORS) as server:
        for client_id in ("service", "poster"):
            await refuses(server, "auth_method", basic(client_id, ""))
            await refuses(server, "auth_method", basic(client_id, ""), client_id=client_id)
        await refuses(server, "unknown_client", basic("nobody", ""))
        for form in ({"client_secret": SECRET}, {"client_id": "service"}):
            await refuses(server, "invalid_request", basic("poster", ""), "invalid_request", **form)


@pytest.mark.rule("AS-88")
async def test_a_right_secret_proves_a_client_in_the_header_and_in_the_body() -> None:
    """RFC 6749 §2.3.1: clients with a secret may use Basic, whatever method they registered."""
    async with deploy(registration=OPERATORS) as server:
        for client_id in ("service", "poster"):
            tokens_of(await token(server, basic(client_id, SECRET)))
            tokens_of(await token(server, client_id=client_id, client_secret=SECRET))
            await refuses(server, "secret", basic(client_id, SECRET[:-1]))
            await refuses(server, "secret", client_id=client_id, client_secret=SECRET[:-1])


@pytest.mark.case("Z66")
async def test_a_client_is_held_to_its_kind_of_method() -> None:
    async with deploy(registration=OPERATORS) as server:
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
@rows(
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
@rows(("after", "good"), [(99, True), (99.5, True), (100, False), (101, False)])
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


# ----------------------------------------------------------------------------- what a request shows


def request_of(form: Mapping[str, str] = {}, authorization: str | None = None) -> EndpointRequest:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    request = EndpointRequest("token", {"type": "http", "method": "POST", "headers": headers}, None)  # type: ignore[arg-type]
    request.parameters = Parameters(list(form.items()))
    return request


ASSERTED = {"client_assertion": "a.b.c", "client_assertion_type": ASSERTION_TYPE}
REFUSED: dict[str, tuple[dict[str, str], str | None, type[Exception], str]] = {
    "two methods": (
        {"client_secret": "x"},
        "Basic YTpi",
        MalformedRequest,
        "The request uses two client authentication methods",
    ),
    "three methods": (
        {"client_secret": "x", **ASSERTED},
        "Basic YTpi",
        MalformedRequest,
        "The request uses two client authentication methods",
    ),
    "two clients": (
        {"client_id": "b"},
        "Basic YTpi",
        MalformedRequest,
        "The request names two clients",
    ),
    "an unknown type": (
        {"client_assertion": "a.b.c"},
        None,
        InvalidClient,
        "The client_assertion_type is not supported",
    ),
    "nobody": (
        {},
        None,
        InvalidClient,
        "The request contains no client_id and no client credentials",
    ),
    "a secret of nobody": (
        {"client_secret": "x"},
        None,
        InvalidClient,
        "The request contains no client_id and no client credentials",
    ),
    "another scheme": (
        {},
        "Digest x",
        InvalidClient,
        "The authentication scheme is not supported",
    ),
    "no base64": ({}, "Basic !", InvalidClient, "Client authentication failed"),
    "no colon": ({}, "Basic YWI=", InvalidClient, "Client authentication failed"),
}


@rows(("form", "authorization", "kind", "words"), REFUSED.values(), ids=REFUSED)
async def test_what_a_developer_is_told(
    form: dict[str, str], authorization: str | None, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught:
        parse_client_credentials(request_of(form, authorization))
    assert str(caught.value) == words


@rows(
    ("form", "authorization", "shown"),
    [
        ({"client_id": "a"}, None, ("none", "a", "")),
        ({"client_id": "a", "client_secret": "b"}, None, ("client_secret_post", "a", "b")),
        ({}, "Basic YTpi", ("client_secret_basic", "a", "b")),
        ({"client_id": "a"}, "Basic YTpi", ("client_secret_basic", "a", "b")),
        ({}, "Basic Og==", ("none", "", "")),
        ({}, "Basic YTo=", ("none", "a", "")),
        ({"client_id": "a"}, "Basic YTo=", ("none", "a", "")),
        ({}, "Basic YTpiOmM=", ("client_secret_basic", "a", "b:c")),
        (
            {},
            "Basic " + base64.b64encode(b"a%3Ab:c%2Bd+e").decode(),
            ("client_secret_basic", "a:b", "c+d e"),
        ),
        (
            {},
            "Basic " + base64.b64encode("ä:ö".encode()).decode(),
            ("client_secret_basic", "ä", "ö"),
        ),
        ({"client_id": "a", **ASSERTED}, None, ("private_key_jwt", "a", "a.b.c")),
        (ASSERTED, None, ("private_key_jwt", "", "a.b.c")),
    ],
)
async def test_what_a_request_shows(
    form: dict[str, str], authorization: str | None, shown: tuple[str, str, str]
) -> None:
    assert tuple(parse_client_credentials(request_of(form, authorization))) == shown


async def test_a_basic_header_of_16_kib_is_read_and_a_longer_one_is_not() -> None:
    text = b"a:" + b"b" * (MAX_BASIC_BYTES // 4 * 3 - 2)
    shown = parse_client_credentials(request_of({}, "Basic " + base64.b64encode(text).decode()))
    assert shown == Credentials("client_secret_basic", "a", text[2:].decode())
    with pytest.raises(InvalidClient) as caught:
        parse_client_credentials(request_of({}, "Basic " + base64.b64encode(text + b"b").decode()))
    assert caught.value.reason == "no_credentials"


async def test_what_a_client_shows_is_not_shown_again() -> None:
    assert (
        repr(Credentials("client_secret_post", "a", "b"))
        == "Credentials('client_secret_post', 'a')"
    )


async def test_a_secret_with_a_colon_is_split_from_the_id_at_the_first_one() -> None:
    secret = "a:b:" + "x" * 40
    registration = Registration(clients=[{**CONFIDENTIAL, "client_secret": secret}])
    async with deploy(registration=registration) as server:
        tokens_of(
            await server.token(headers=basic("service", secret), grant_type="client_credentials")
        )


# --------------------------------------------------------------------------------------- assertions


@rows(
    ("claims", "good"),
    [
        ({"exp": 1_800_000_300}, True),
        ({"exp": 1_800_000_301}, False),
        ({"exp": 1_800_000_300, "iat": ABSENT}, True),
        ({"exp": 1_800_000_301, "iat": ABSENT}, False),
        ({"jti": "j"}, True),
        ({"jti": "j" * 256}, True),
        ({"jti": "j" * 257}, False),
        ({"jti": ""}, False),
        ({"iss": "other"}, False),
        ({"iss": ABSENT}, False),
        ({"sub": ABSENT, "client_id": "robot"}, False),
        ({"aud": [BASE_URL]}, True),
        ({"aud": [BASE_URL, BASE_URL]}, False),
        ({"aud": "https://other.example"}, False),
    ],
)
async def test_an_assertion_at_its_edges(claims: dict[str, Any], good: bool) -> None:
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        response = await server.token(**robot.form(robot.assertion(**claims), client_id="robot"))
        if good:
            tokens_of(response)
        else:
            assert_refused(response, "invalid_client", 401)


@pytest.mark.parametrize(
    "typ", ["client-authentication+jwt", "application/client-authentication+jwt", "jwt"]
)
async def test_types_of_assertions(typ: str) -> None:
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        tokens_of(await server.token(**robot.form(robot.assertion(header={"typ": typ}))))
        for wrong in (typ[:-1], f"{typ}x"):
            response = await server.token(**robot.form(robot.assertion(header={"typ": wrong})))
            assert_refused(response, "invalid_client", 401)


async def test_a_jti_is_remembered_for_as_long_as_the_longest_assertion_and_under_its_name() -> (
    None
):
    """Pinned: two versions of this package on one store have to agree about replays."""
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        tokens_of(await server.token(**robot.form(robot.assertion(jti="once"))))
        key, store = hash_of(hash_of("robot") + hash_of("once")), server.provider.store
        assert USED_ASSERTIONS.name == "jti"
        clock.advance(359.9)
        assert await store.get("jti", key) is not None
        clock.advance(0.1)
        assert await store.get("jti", key) is None


async def test_an_assertion_without_an_issuer_belongs_to_no_client() -> None:
    robot = Robot(BASE_URL, clock := FrozenClock(), client_id="X")
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        response = await server.token(**robot.form(robot.assertion(iss=ABSENT)))
        assert_refused(response, "invalid_client", 401)
        assert server.reasons() == ["unknown_client"]


# --------------------------------------------------------------------- what belongs to which client


def authenticator_of(server: Server, fetcher: PublicFetcher) -> ClientAuthenticator:
    inner = server.provider._server
    keys = ClientKeys(fetcher, inner.clock, inner.limits)
    return ClientAuthenticator(
        inner.clients, inner.store, inner.clock, [BASE_URL], keys, inner.limits
    )


async def test_keys_are_looked_up_by_the_way_that_a_stranger_may_name() -> None:
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["10.0.0.1"]

    robot = Robot(BASE_URL, clock := FrozenClock())
    del robot.metadata["jwks"]
    robot.metadata["jwks_uri"] = "https://keys.example:8443/jwks"
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        server.provider._server.authenticator = authenticator_of(
            server, PublicFetcher(timeout_seconds=5, resolve=resolve)
        )
        response = await server.token(**robot.form())
        assert_refused(response, "invalid_client", 401)
        assert response.json()["error_description"] == "The key set of the client cannot be used"
        assert asked == [("keys.example", 8443)]


async def test_what_is_known_of_one_set_of_keys_is_not_used_for_another() -> None:
    base = {"grant_types": [], "token_endpoint_auth_method": "private_key_jwt"}
    one, other = (
        Client(
            client_id="one",
            metadata={**base, "jwks": key_set(key_of("ES256", name))},
            origin="registered",
        )
        for name in ("key", "other")
    )
    async with deploy() as server:
        inner = server.provider._server
        keys = ClientKeys(PublicFetcher(timeout_seconds=5), inner.clock, inner.limits)
        for client, name in ((one, "key"), (other, "other"), (one, "key")):
            found = await keys.of(client, "192.0.2.1").keys_for(None, "ES256")
            assert [each.key_id for each in found] == [key_of("ES256", name).key_id]
        assert await keys.find(one, "192.0.2.1") is await keys.find(
            replace(one, client_id="two"), "192.0.2.1"
        )


async def test_a_secret_that_expired_in_the_first_second_has_expired() -> None:
    async with deploy() as server:
        client = await server.register(token_endpoint_auth_method="client_secret_post")
        clients = server.provider._server.clients
        await clients.update(client.client_id, lambda known: replace(known, secret_expires_at=1))
        form = {
            "client_id": client.client_id,
            "client_secret": client.information["client_secret"],
            "token": "x",
        }
        assert_refused(await server.call("POST", "/revoke", form=form), "invalid_client", 401)
        assert server.reasons() == ["secret_expired"]


async def test_a_new_metadata_document_counts_as_a_registration_of_its_address() -> None:
    async with deploy(
        rate_limits=RateLimits(register=1), registration=Registration(metadata_documents=True)
    ) as server:
        await server.register()
        response = await server.token(
            client_id="https://app.example.com/client.json", grant_type="refresh_token"
        )
        assert (response.status, server.reasons()) == (429, ["rate_limit"])


async def test_the_stand_in_for_an_unknown_client_authenticates_no_request() -> None:
    """What is read for an unknown client, so that it takes as long as for a known one."""
    assert dummy_client().secret_hash is None
    assert dummy_client().client_id == "dummy"
    async with deploy() as server:
        for secret in ("", "x" * 43):
            response = await server.token(
                client_id="dummy", client_secret=secret, grant_type="refresh_token"
            )
            assert_refused(response, "invalid_client", 401)
