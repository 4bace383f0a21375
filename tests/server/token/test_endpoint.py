"""``/token``: the requests it reads, and the form of its answers."""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from asgi_mcp_auth.server import Registration
from tests.support.authorization_server import CONFIDENTIAL, RESOURCE, ClientOf, Server, deploy
from tests.support.rows import rows
from tests.support.token_endpoint import assert_not_kept, assert_refused, tokens_of

pytestmark = pytest.mark.asyncio

FORM = "application/x-www-form-urlencoded"
ENDPOINTS = ("/token", "/revoke", "/introspect")


async def request_of(client: ClientOf) -> dict[str, str]:
    """Return the parameters of a good request; sending them yields tokens."""
    return {
        "grant_type": "authorization_code",
        "client_id": client.client_id,
        "code": await client.code(),
        "code_verifier": client.verifier,
        "redirect_uri": client.information["redirect_uris"][0],
        "resource": RESOURCE,
    }


async def post(
    server: Server,
    body: bytes,
    content_type: str | None = FORM,
    target: str = "/token",
    **more: str,
) -> Any:
    headers = {} if content_type is None else {"Content-Type": content_type}
    return await server.call("POST", target, headers=headers | more, body=body)


# ----------------------------------------------------------------------------------------- requests


@pytest.mark.case("Z54")
@pytest.mark.rule("AS-30")
@rows("target", ENDPOINTS)
@rows("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "FOO"])
async def test_any_method_but_post_is_405_and_says_so(target: str, method: str) -> None:
    async with deploy() as server:
        response = await server.call(method, f"{target}?grant_type=client_credentials")
        assert (response.status, response.header("allow")) == (405, "POST")
        assert (
            response.body == b""
            if method == "HEAD"
            else response.json()["error"] == "invalid_request"
        )
        assert_not_kept(response)
        assert server.reasons() == ["method"]


@pytest.mark.case("Z54")
@rows(
    "content_type",
    [
        FORM,
        FORM.upper(),
        f"{FORM};charset=UTF-8",
        f"{FORM} ; charset=utf-8",
        f"{FORM}; charset=iso-8859-1; a=b",
    ],
)
async def test_a_form_may_have_parameters_in_its_content_type(content_type: str) -> None:
    async with deploy() as server:
        client = await server.register()
        body = urlencode(await request_of(client)).encode()
        tokens_of(await post(server, body, content_type))


@pytest.mark.case("Z54")
@rows(
    "content_type",
    [
        None,
        "",
        "application/json",
        "multipart/form-data; boundary=x",
        "text/plain",
        f"x{FORM}",
        f"{FORM}x",
        "text/html",
    ],
)
async def test_any_other_content_type_is_refused_and_uses_nothing_up(
    content_type: str | None,
) -> None:
    async with deploy() as server:
        client = await server.register()
        form = await request_of(client)
        for body in (urlencode(form).encode(), json.dumps(form).encode()):
            assert_refused(await post(server, body, content_type), "invalid_request")
        tokens_of(await server.token(**form))


@pytest.mark.case("Z55")
@rows(
    ("body", "status"),
    [
        (b"grant_type=authorization_code&x=" + b"x" * 2**20, 413),
        (b"&".join(b"p%d=1" % number for number in range(10_000)), 413),
        (b"&".join(b"p%d=1" % number for number in range(65)), 400),
        (b"k" * 64_000 + b"=1", 401),
        (gzip.compress(b"grant_type=authorization_code", mtime=0), 400),
        (b"grant_type=authorization_code&client_id=\xff", 400),
        (b"grant_type=authorization_code&client_id=%ff", 400),
        (b"grant_type=%zz&client_id=%", 400),
        (b"", 401),
        (b"&&&===&", 401),
        (b"\0", 401),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else str(value),
)
@rows("target", ENDPOINTS)
async def test_odd_bodies_get_a_bounded_4xx(target: str, body: bytes, status: int) -> None:
    async with deploy() as server:
        response = await post(server, body, target=target)
        assert_refused(response, "invalid_client" if status == 401 else "invalid_request", status)


@pytest.mark.case("Z55")
async def test_a_compressed_body_is_not_inflated() -> None:
    async with deploy() as server:
        body = gzip.compress(b"grant_type=authorization_code")
        for encoding in ("gzip", "GZIP", "br", "identity, gzip"):
            assert_refused(
                await post(server, body, **{"Content-Encoding": encoding}), "invalid_request"
            )
        client = await server.register()
        plain = urlencode(await request_of(client)).encode()
        tokens_of(await post(server, plain, **{"Content-Encoding": "identity"}))


@pytest.mark.case("Z55")
@rows(
    "length",
    ["99999999", "9" * 10, "1" * 4000, "-1", "+5", "5.0", "0x10", "ten", "²"],
    ids=lambda text: text[:12],
)
async def test_a_length_that_is_too_large_or_no_number_is_refused_unread(length: str) -> None:
    async with deploy() as server:
        headers = [
            (b"content-type", FORM.encode()),
            (b"content-length", length.encode("latin-1", "replace")),
        ]
        response = await server.call("POST", "/token", headers=headers, body=b"grant_type=x")  # type: ignore[arg-type]
        assert_refused(response, "invalid_request", 413)


@pytest.mark.case("Z56")
@rows(
    "name",
    [
        "grant_type",
        "client_id",
        "code",
        "code_verifier",
        "redirect_uri",
        "scope",
        "unknown_parameter",
    ],
)
async def test_a_repeated_parameter_is_refused_and_uses_nothing_up(name: str) -> None:
    async with deploy() as server:
        client = await server.register()
        form = await request_of(client)
        for second in (form.get(name, "x"), "other", ""):
            pairs = [*form.items(), (name, second)]
            if name not in form:
                pairs.append((name, "x"))
            response = await server.call("POST", "/token", form=pairs)
            assert_refused(response, "invalid_request")
        tokens_of(await server.token(**form))


@pytest.mark.case("Z56")
async def test_only_resource_may_be_repeated() -> None:
    """RFC 8707 §2."""
    async with deploy() as server:
        client = await server.register()
        pairs = [*(await request_of(client)).items(), ("resource", RESOURCE)]
        tokens_of(await server.call("POST", "/token", form=pairs))


@pytest.mark.case("Z57")
async def test_parameters_in_the_query_do_not_count() -> None:
    async with deploy() as server:
        client = await server.register()
        form = await request_of(client)
        assert_refused(
            await post(server, b"", target=f"/token?{urlencode(form)}"), "invalid_client", 401
        )
        code = form.pop("code")
        response = await server.call("POST", f"/token?code={code}", form=form)
        assert_refused(response, "invalid_request")
        tokens_of(
            await server.call(
                "POST", "/token?code=x&code=y&grant_type=password", form={**form, "code": code}
            )
        )


async def test_an_empty_parameter_counts_as_absent() -> None:
    """RFC 6749 §3.2."""
    async with deploy() as server:
        client = await server.register()
        form = await request_of(client)
        tokens_of(
            await server.token(
                **{**form, "redirect_uri": "", "scope": "", "client_secret": "", "resource": ""}
            )
        )
        for name in ("grant_type", "code"):
            assert_refused(await server.token(**{**form, name: ""}), "invalid_request")


@pytest.mark.case("Z58")
@pytest.mark.rule("AS-32", "AS-43", "AS-45", "EXT-02")
@rows(
    ("grant_type", "error", "reason"),
    [
        (None, "invalid_request", "invalid_request"),
        ("password", "unsupported_grant_type", "unsupported_grant_type"),
        ("implicit", "unsupported_grant_type", "unsupported_grant_type"),
        (
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "unsupported_grant_type",
            "unsupported_grant_type",
        ),
        (
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "unsupported_grant_type",
            "unsupported_grant_type",
        ),
        (
            "urn:ietf:params:oauth:grant-type:device_code",
            "unsupported_grant_type",
            "unsupported_grant_type",
        ),
        ("AUTHORIZATION_CODE", "unsupported_grant_type", "unsupported_grant_type"),
        ("authorization_code ", "unsupported_grant_type", "unsupported_grant_type"),
        ("client_credentials", "unauthorized_client", "unauthorized_client"),
    ],
)
async def test_a_grant_type_is_known_here_and_to_the_client_or_refused(
    grant_type: str | None, error: str, reason: str
) -> None:
    async with deploy() as server:
        client = await server.register()
        form = await request_of(client)
        assert_refused(
            await server.token(
                **{**form, "grant_type": grant_type, "username": "a", "password": "b"}
            ),
            error,
        )
        assert server.reasons() == [reason]
        tokens_of(await server.token(**form))


@pytest.mark.case("Z58")
@pytest.mark.rule("AS-42", "AS-45")
async def test_a_client_that_registered_no_refresh_token_gets_none_and_can_use_none() -> None:
    async with deploy() as server:
        client = await server.register(grant_types=["authorization_code"])
        tokens = tokens_of(await client.redeem(await client.code(scope="mcp:read offline_access")))
        assert "refresh_token" not in tokens
        other = await server.register()
        response = await client.refresh((await other.sign_in())["refresh_token"])
        assert_refused(response, "unauthorized_client")


@pytest.mark.case("Z58")
async def test_client_credentials_that_are_switched_off_are_not_supported() -> None:
    # more would be a mistake in the settings
    known = {**CONFIDENTIAL, "grant_types": ["authorization_code"]}
    registration = Registration(clients=[known])
    async with deploy(
        registration=registration, options={"disabled": ["client_credentials"]}
    ) as server:
        client = server.known(known)
        assert_refused(
            await client.token(grant_type="client_credentials"), "unsupported_grant_type"
        )


@pytest.mark.rule("AS-08")
@pytest.mark.parametrize("name", ["revoke", "introspect"])
async def test_an_endpoint_that_is_switched_off_is_not_there(name: str) -> None:
    async with deploy(options={"disabled": [name]}) as server:
        client = await server.register()
        response = await server.call(
            "POST", f"/{name}", form={"token": "x", "client_id": client.client_id}
        )
        assert response.status == 404


# ------------------------------------------------------------------------------------------ answers


@pytest.mark.case("Z59")
@pytest.mark.rule("AS-31", "AS-37")
async def test_every_answer_is_json_that_may_not_be_stored() -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = tokens_of(await client.redeem(await client.code()))
        assert set(tokens) == {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
        tokens_of(await client.refresh(tokens["refresh_token"]))
        assert_refused(await client.redeem("unknown"), "invalid_grant")
        assert_refused(await server.token(grant_type="authorization_code"), "invalid_client", 401)


@pytest.mark.case("Z59", "W22")
@pytest.mark.rule("RS-08")
async def test_a_page_of_any_origin_may_ask_without_cookies() -> None:
    async with deploy() as server:
        client = await server.register()
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        for target in ("/token", "/revoke"):
            preflight = await server.call("OPTIONS", target, headers=headers)
            assert (preflight.status, preflight.header("access-control-allow-origin")) == (204, "*")
        for origin in ("https://evil.example", "null"):
            response = await server.call(
                "POST", "/token", headers={"Origin": origin}, form=await request_of(client)
            )
            assert (response.status, response.header("access-control-allow-origin")) == (200, "*")
            assert response.header("access-control-allow-credentials") is None
        refused = await server.call("OPTIONS", "/introspect", headers=headers)
        assert refused.header("access-control-allow-origin") is None, (
            "resource servers are no pages"
        )


@pytest.mark.case("Z60")
@pytest.mark.rule("AS-37")
@rows(
    ("requested", "granted"),
    [
        (None, "mcp:read"),
        ("mcp:read", "mcp:read"),
        ("mcp:write mcp:read", "mcp:write mcp:read"),
        ("mcp:read mcp:read", "mcp:read"),
        ("mcp:read offline_access", "mcp:read offline_access"),
    ],
)
async def test_the_scope_is_always_said(requested: str | None, granted: str) -> None:
    async with deploy() as server:
        tokens = await (await server.register()).sign_in(scope=requested)
        assert tokens["scope"] == granted


@pytest.mark.case("Z60")
async def test_a_person_who_may_grant_less_gives_less_and_the_client_is_told() -> None:
    async with deploy(
        options={"grant_scopes": lambda person, client, scopes: ["mcp:read"]}
    ) as server:
        tokens = await (await server.register()).sign_in(scope="mcp:read mcp:write")
        assert tokens["scope"] == "mcp:read"


ATTACKS = (
    '"><script>alert(1)</script>',
    "x\r\nSet-Cookie: a=b",
    '", error="none',
    "é\u202e\0",
    "\\",
    "%22%0d%0a",
    "{{7*7}}",
)


@pytest.mark.case("Z120")
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("target", ENDPOINTS)
async def test_no_answer_repeats_what_was_sent(target: str, attack: str) -> None:
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        client = await server.register()
        known = server.known(CONFIDENTIAL)
        good = {**await request_of(client), "token": "x", "scope": "mcp:read"}
        for name in (*good, "client_secret", "client_assertion", "client_assertion_type", attack):
            for form in (
                {**good, name: attack},
                {**good, "grant_type": "refresh_token", name: attack},
            ):
                response = await server.call("POST", target, form=form)
                assert attack.encode() not in response.body
                assert not any(attack in value for _, value in response.headers)
                if response.status != 200:
                    assert_refused(response, response.json()["error"], response.status)
        sent = {**good, "refresh_token": attack, "grant_type": "refresh_token"}
        del sent["client_id"]
        response = await known.token(**sent)
        assert_refused(response, "invalid_grant")


async def test_answers_of_a_prefixed_server_are_below_the_prefix() -> None:
    async with deploy(options={"path_prefix": "/oauth"}) as server:
        response = await server.call(
            "POST", "/oauth/token", form={"grant_type": "authorization_code"}
        )
        assert_refused(response, "invalid_client", 401)
        response = await server.call("POST", "/token", form={})
        assert "resource_metadata" in (response.header("www-authenticate") or ""), (
            "this path is the app's"
        )
