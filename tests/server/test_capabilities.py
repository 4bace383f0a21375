"""For each combination of features: what the metadata names works, the rest is refused.

The settings are generated; the features that have to work are read from the document alone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_mcp_auth.jwt import JWTVerifier
from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.testing import sign_jwt
from tests.support.asgi import Response
from tests.support.authorization_server import (
    WEB_REDIRECT_URI,
    ClientOf,
    Server,
    answer_of,
    basic,
    challenge_of,
    deploy,
)
from tests.support.gate import signing_key
from tests.support.tls import Authority, DocumentHost

pytestmark = pytest.mark.rule("AS-08")

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SECRET = "a-secret-that-has-at-least-32-characters"
VERIFIER = secrets.token_urlsafe(48)
ALL_GRANTS = ["authorization_code", "refresh_token", "client_credentials"]
OWN = "client_credentials"
CLIENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "client_secret_basic": {"client_secret": SECRET},
    "client_secret_post": {"client_secret": SECRET},
    "private_key_jwt": {"jwks": {"keys": [signing_key().public_jwk()]}},
}
ENDPOINTS = {
    "registration_endpoint": "register",
    "revocation_endpoint": "revoke",
    "introspection_endpoint": "introspect",
    "pushed_authorization_request_endpoint": "par",
}
MAY_BE_OFF = ("revoke", "introspect", "par", "applications", "client_credentials")

configurations = st.fixed_dictionaries(
    {
        "disabled": st.sets(st.sampled_from(MAY_BE_OFF)),
        "allow_dynamic_registration": st.booleans(),
        "metadata_documents": st.booleans(),
        "management": st.booleans(),
        "require_pushed_requests": st.booleans(),
        "path_prefix": st.sampled_from(["", "/oauth"]),
        "base_url": st.sampled_from(["http://localhost:8000", "http://localhost:8000/t1"]),
        "resource_base_url": st.sampled_from([None, "http://localhost:9000"]),
        "scopes": st.sampled_from([("mcp:read", "mcp:write"), ()]),
    }
)


@pytest.fixture(scope="module")
def host() -> Iterator[tuple[Authority, DocumentHost]]:
    with Authority() as authority, DocumentHost(authority) as listening:
        listening.serve_client(redirect_uris=[WEB_REDIRECT_URI])
        yield authority, listening


@pytest.mark.slow
@pytest.mark.case("Z118")
@given(configurations)
@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_what_the_metadata_names_works_and_nothing_else_does(
    host: tuple[Authority, DocumentHost], configuration: dict[str, Any]
) -> None:
    asyncio.run(examine(host, **configuration))


@pytest.mark.case("Z118")
@pytest.mark.parametrize("feature", ["register", *MAY_BE_OFF])
def test_each_feature_alone_is_switched_off(
    host: tuple[Authority, DocumentHost], feature: str
) -> None:
    disabled = set() if feature == "register" else {feature}
    asyncio.run(examine(host, disabled=disabled, allow_dynamic_registration=feature != "register"))


async def examine(
    host: tuple[Authority, DocumentHost],
    *,
    disabled: set[str],
    allow_dynamic_registration: bool = True,
    metadata_documents: bool = True,
    management: bool = True,
    require_pushed_requests: bool = False,
    path_prefix: str = "",
    base_url: str = "http://localhost:8000",
    resource_base_url: str | None = None,
    scopes: tuple[str, ...] = ("mcp:read", "mcp:write"),
) -> None:
    """Run a server with these settings and hold it to its metadata."""
    if "par" in disabled:
        require_pushed_requests = False
    registration = Registration(
        clients=[
            {
                "client_id": method,
                "token_endpoint_auth_method": method,
                "redirect_uris": [WEB_REDIRECT_URI],
                "grant_types": [
                    each for each in ALL_GRANTS if each not in (method == "none" and OWN, *disabled)
                ],
                **client,
            }
            for method, client in CLIENTS.items()
        ],
        management=management,
        metadata_documents=metadata_documents,
        development_documents=True,
        development_ca_file=host[0].ca_file,
    )
    options = {
        "disabled": sorted(disabled),
        "require_pushed_requests": require_pushed_requests,
        "path_prefix": path_prefix,
        "resource_base_url": resource_base_url,
    }
    async with deploy(
        base_url=base_url,
        registration=registration,
        allow_dynamic_registration=allow_dynamic_registration,
        required_scopes=scopes[:1],
        scopes_supported=list(scopes),
        options=options,
    ) as server:
        await Examiner(server, host[1].url(), path_prefix, management=management).run()


class Examiner:
    """Holds a server to its metadata, which is all that it knows of it, but for what may be
    missing.
    """

    def __init__(self, server: Server, document_url: str, prefix: str, *, management: bool) -> None:
        self.server = server
        self.document_url = document_url
        self.prefix = prefix
        self.management = management
        self.metadata: dict[str, Any] = {}

    async def run(self) -> None:
        """Examine everything."""
        base_url = self.server.provider.base_url or ""
        path = urlsplit(base_url).path
        response = await self.server.call("GET", f"/.well-known/oauth-authorization-server{path}")
        self.metadata = response.json()
        await self.check_endpoints()
        await self.check_pages()
        await self.check_registration()
        for method in CLIENTS:
            if method in self.metadata["token_endpoint_auth_methods_supported"]:
                await self.check_method(method)
        await self.check_grants()
        await self.check_scopes()
        await self.check_requests()
        await self.check_document()

    async def post(
        self, name: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send a form to an endpoint that the metadata names."""
        return await self.server.call(
            "POST", urlsplit(self.metadata[name]).path, form=form, headers=headers or {}
        )

    def proof(
        self, method: str, endpoint: str = "token_endpoint"
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return the form members and the headers with which the client ``method`` proves who it
        is.
        """
        if method == "none":
            return {"client_id": method}, {}
        if method == "client_secret_basic":
            return {}, basic(method, SECRET)
        if method == "client_secret_post":
            return {"client_id": method, "client_secret": SECRET}, {}
        key, now = signing_key(), int(self.server.clock.time())
        claims = {
            "iss": method,
            "sub": method,
            "aud": self.metadata["issuer"],
            "exp": now + 60,
            "iat": now,
        }
        header = {
            "alg": self.metadata[f"{endpoint}_auth_signing_alg_values_supported"][3],
            "kid": key.key_id,
        }
        assert (
            header["alg"] == "PS256"
            or header["alg"] in self.metadata[f"{endpoint}_auth_signing_alg_values_supported"]
        )
        header["alg"] = "ES256"
        assertion = sign_jwt(key, header, {**claims, "jti": secrets.token_hex(8)})
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}, {}

    def request(self, client_id: str, **changes: str | None) -> dict[str, str]:
        """Return the parameters of an authorization request."""
        usual: dict[str, str | None] = {
            "client_id": client_id,
            "redirect_uri": WEB_REDIRECT_URI,
            "response_type": "code",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "state": "s",
        }
        return {name: value for name, value in {**usual, **changes}.items() if value is not None}

    async def authorize(self, client_id: str, **changes: str | None) -> dict[str, str]:
        """Have a person go through an authorization request, pushed where it has to be; return the
        response.
        """
        parameters = self.request(client_id, **changes)
        if self.metadata.get("require_pushed_authorization_requests"):
            form, headers = (
                self.proof(client_id) if client_id in CLIENTS else ({"client_id": client_id}, {})
            )
            response = await self.post(
                "pushed_authorization_request_endpoint", {**parameters, **form}, headers
            )
            if response.status != 201:
                return {str(name): str(value) for name, value in response.json().items()}
            parameters = {"client_id": client_id, "request_uri": response.json()["request_uri"]}
        browser = self.server.browser()
        page = await browser.open(
            f"{self.metadata['authorization_endpoint']}?{urlencode(parameters)}"
        )
        page = await browser.sign_in(page, username="alice")
        if urlsplit(page.url).path.endswith("/consent"):
            page = await browser.submit(page, action="approve")
        if not page.url.startswith(WEB_REDIRECT_URI):
            return {"error": f"page {page.response.status}"}
        answer = answer_of(page.url)
        assert answer["iss"] == self.metadata["issuer"]
        assert self.metadata["authorization_response_iss_parameter_supported"] is True
        return answer

    async def redeem(self, client_id: str, code: str) -> dict[str, Any]:
        """Redeem a code and return the response."""
        form, headers = (
            self.proof(client_id) if client_id in CLIENTS else ({"client_id": client_id}, {})
        )
        sent = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, **form}
        response = await self.post("token_endpoint", sent, headers)
        assert response.status == 200, response.body
        document: dict[str, Any] = response.json()
        return document

    async def check_endpoints(self) -> None:
        """An endpoint that is not named is not there."""
        for name, path in ENDPOINTS.items():
            for method in ("GET", "POST", "PUT", "DELETE"):
                status = (await self.server.call(method, f"{self.prefix}/{path}", form={})).status
                assert (status == 404) == (name not in self.metadata), (name, method, status)
                if name not in self.metadata:
                    assert not [each for each in self.metadata if each.startswith(name)]

    async def check_pages(self) -> None:
        """Pages are in no document; both of a pair are there, or none."""
        statuses = [
            (await self.server.call(method, f"{self.prefix}/{path}", form={})).status
            for method, path in (
                ("GET", "applications"),
                ("POST", "applications"),
                ("POST", "logout"),
            )
        ]
        assert (404 in statuses) == (set(statuses) == {404})

    async def check_registration(self) -> None:
        """Who registers can go on, and manage the registration where there is a token for it."""
        if "registration_endpoint" not in self.metadata:
            return
        target = urlsplit(self.metadata["registration_endpoint"]).path
        document = {"redirect_uris": [WEB_REDIRECT_URI], "token_endpoint_auth_method": "none"}
        response = await self.server.call("POST", target, document=document)
        assert response.status == 201
        information = response.json()
        assert set(information["grant_types"]) <= set(self.metadata["grant_types_supported"])
        assert information["response_types"] == self.metadata["response_types_supported"]
        answer = await self.authorize(information["client_id"])
        assert (await self.redeem(information["client_id"], answer["code"]))[
            "token_type"
        ] == "Bearer"
        token, uri = (
            information.get("registration_access_token"),
            information.get("registration_client_uri"),
        )
        assert ((token is None), (uri is None)) == (not self.management,) * 2
        parts = urlsplit(uri or f"x?client_id={information['client_id']}")
        response = await self.server.call("GET", f"{target}?{parts.query}", bearer=token or "guess")
        assert response.status == (200 if self.management else 405)

    async def check_method(self, method: str) -> None:
        """A way to authenticate works at each endpoint that names it."""
        tokens = await self.redeem(method, (await self.authorize(method))["code"])
        assert ("refresh_token" in tokens) == (
            "refresh_token" in self.metadata["grant_types_supported"]
        )
        verifier = JWTVerifier(
            public_key=(
                await self.server.call("GET", urlsplit(self.metadata["jwks_uri"]).path)
            ).json(),
            issuer=self.metadata["issuer"],
            audience=self.metadata["protected_resources"][0],
            clock=self.server.clock,
        )
        assert await verifier.verify_token(tokens["access_token"]) is not None
        assert (await self.server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        for endpoint in ("introspection_endpoint", "revocation_endpoint"):
            if endpoint not in self.metadata:
                continue
            form, headers = self.proof(method, endpoint)
            response = await self.post(endpoint, {"token": tokens["access_token"], **form}, headers)
            if method in self.metadata[f"{endpoint}_auth_methods_supported"]:
                assert response.status == 200
            else:
                assert response.json()["error"] == "invalid_client"
        alive = (
            await self.server.call("POST", "/mcp", bearer=tokens["access_token"])
        ).status == 200
        assert alive == ("revocation_endpoint" not in self.metadata)

    async def check_grants(self) -> None:
        """A grant type that is not named is not supported."""
        form, headers = self.proof("client_secret_basic")
        other = [
            "password",
            "implicit",
            "urn:ietf:params:oauth:grant-type:device_code",
            "client_credentials",
            "x",
        ]
        for grant_type in other:
            response = await self.post(
                "token_endpoint", {"grant_type": grant_type, **form}, headers
            )
            if grant_type in self.metadata["grant_types_supported"]:
                assert response.status == 200
            else:
                assert response.json()["error"] == "unsupported_grant_type"

    async def check_scopes(self) -> None:
        """Each scope that is named can be granted, and no other one."""
        supported = self.metadata["scopes_supported"]
        for scope in supported:
            answer = await self.authorize("none", scope=scope)
            assert (await self.redeem("none", answer["code"]))["scope"] == scope
        answer = await self.authorize("none", scope="admin")
        if set(supported) > {"offline_access"}:
            assert answer["error"] == "invalid_scope"
        else:  # a server without scopes ignores them
            assert not (await self.redeem("none", answer["code"])).get("scope")

    async def check_requests(self) -> None:
        """What kind of requests there are."""
        assert self.metadata["code_challenge_methods_supported"] == ["S256"]
        assert self.metadata["response_types_supported"] == ["code"]
        assert self.metadata["response_modes_supported"] == ["query"]
        assert self.metadata["request_uri_parameter_supported"] is False
        refusals: list[tuple[dict[str, str | None], str]] = [
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge": None}, "invalid_request"),
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"response_mode": "fragment"}, "invalid_request"),
            ({"response_mode": "form_post"}, "invalid_request"),
            ({"resource": "https://other.example"}, "invalid_target"),
            ({"request": "e30.e30."}, "request_not_supported"),
        ]
        for changes, error in refusals:
            assert (await self.authorize("none", **changes))["error"] == error, changes
        for resource in self.metadata["protected_resources"]:
            assert "code" in await self.authorize("none", resource=resource, response_mode="query")
        query = urlencode(self.request("none"))
        plain = await self.server.browser().send(
            "GET", f"{self.metadata['authorization_endpoint']}?{query}"
        )
        must_push = self.metadata.get("require_pushed_authorization_requests", False)
        assert ("error=invalid_request" in (plain.header("location") or "")) == must_push
        foreign = urlencode(self.request("none", request_uri="https://app.example.com/request.jwt"))
        location = (
            await self.server.browser().send(
                "GET", f"{self.metadata['authorization_endpoint']}?{foreign}"
            )
        ).header("location")
        assert (
            dict(parse_qsl(urlsplit(location or "").query))["error"] == "request_uri_not_supported"
        )

    async def check_document(self) -> None:
        """A client with a metadata document gets in, or is unknown."""
        client = ClientOf(self.server, {"client_id": self.document_url})
        if self.metadata.get("client_id_metadata_document_supported"):
            answer = await self.authorize(client.client_id)
            assert (await self.redeem(client.client_id, answer["code"]))["token_type"] == "Bearer"
        else:
            assert (await self.authorize(client.client_id))["error"] in (
                "page 400",
                "invalid_client",
            )
