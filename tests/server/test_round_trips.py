"""Values come back as they were written: records, forms, headers, cookies, tokens, answers."""

from __future__ import annotations

import base64
import string
from collections.abc import Mapping
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_mcp_auth._urls import redirect_uri_matches, with_parameters
from asgi_mcp_auth.errors import InvalidGrant
from asgi_mcp_auth.server.browser.cookies import Cookies
from asgi_mcp_auth.server.browser.records import Session, Transaction
from asgi_mcp_auth.server.clients.authentication import Credentials, parse_client_credentials
from asgi_mcp_auth.server.grants.records import AuthorizationRequest, Code, Consent, Grant
from asgi_mcp_auth.server.parties import Client, Person
from asgi_mcp_auth.server.tokens.refresh import RefreshTokens
from asgi_mcp_auth.server.web import EndpointRequest

pytestmark = pytest.mark.asyncio

FORM = b"application/x-www-form-urlencoded"
BASE64URL = string.ascii_letters + string.digits + "-_"
text = st.text(max_size=40)
some_text = st.text(min_size=1, max_size=40)
json_object = st.dictionaries(
    text,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)


def any_record(kind: type[Any], **members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return records of one kind, their members as their types say."""
    return st.builds(kind, **{each.name: ... for each in fields(kind)} | members)


people = any_record(Person, claims=json_object)
times = st.floats(0, 1e12)
records = st.one_of(
    people,
    any_record(Client, metadata=json_object),
    any_record(AuthorizationRequest),
    any_record(
        Transaction,
        request=st.none() | any_record(AuthorizationRequest),
        signed_in=st.none() | people,
    ),
    any_record(Session, person=people),
    any_record(Code, person=people, used_at=st.none() | times),
    any_record(Grant, person=st.none() | people, rotated_at=times),
    any_record(Consent),
)


@given(records)
async def test_a_record_comes_back_from_the_store_as_it_was(record: Any) -> None:
    assert type(record).load(record.dump()) == record


@pytest.mark.slow
@given(records, st.dictionaries(some_text.map(lambda name: f"x{name}"), st.integers(), max_size=2))
async def test_what_a_newer_version_adds_to_a_record_is_left_out(
    record: Any, more: Mapping[str, int]
) -> None:
    data = record.dump()
    for name, value in more.items():
        data = data.replace(b"{", b"{%b:%d," % (_quoted(name), value), 1)
    assert type(record).load(data) == record


@given(st.dictionaries(some_text, text, max_size=8))
async def test_a_form_is_read_as_it_was_written(form: dict[str, str]) -> None:
    request = _request([(b"content-type", FORM)], urlencode(form).encode())
    await request.read_parameters()
    request.parameters.check_single()
    assert {name: request.parameters.get(name) for name in form} == {
        name: form[name] or None for name in form
    }


@given(text, text)
async def test_a_client_id_and_a_secret_of_any_characters_pass_through_a_basic_header(
    client_id: str, secret: str
) -> None:
    """RFC 6749 §2.3.1: form-encoded first, so that colons and everything else can be in them. An
    empty secret is none.
    """
    pair = base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode())
    request = _request([(b"authorization", b"Basic " + pair)])
    await request.read_parameters()
    assert parse_client_credentials(request) == Credentials(
        "client_secret_basic" if secret else "none", client_id, secret
    )


@given(st.lists(st.binary(max_size=20), max_size=4), st.lists(st.binary(max_size=20), max_size=4))
async def test_no_cookie_of_another_application_hides_or_changes_ours(
    before: list[bytes], after: list[bytes]
) -> None:
    name = Cookies("https://mcp.example.com", "0123abcd").session
    ours = b"%b=the-session" % name.encode()
    foreign = [
        pair for pair in after if not b"".join(pair.split(b";")).strip().startswith(name.encode())
    ]
    request = _request([(b"cookie", b"; ".join([*before, ours, *foreign]))])
    assert request.cookie(name) == "the-session"


keys = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3, unique=True)
grant_ids = st.text(BASE64URL, min_size=22, max_size=22)


@given(keys, grant_ids, st.integers(0, 999_999_999))
async def test_a_refresh_token_can_be_read_after_another_key_was_put_in_front(
    keys: list[bytes], grant_id: str, generation: int
) -> None:
    token = RefreshTokens(keys[-1:]).make(grant_id, generation)
    assert RefreshTokens(keys).parse(token) == (grant_id, generation)


@given(keys, grant_ids, st.integers(0, 999_999_999), st.data())
async def test_a_refresh_token_with_another_character_anywhere_is_none(
    keys: list[bytes], grant_id: str, generation: int, data: st.DataObject
) -> None:
    tokens = RefreshTokens(keys)
    token = tokens.make(grant_id, generation)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))
    with pytest.raises(InvalidGrant):
        tokens.parse(token[:place] + other + token[place + 1 :])


paths = st.from_regex(r"(?:[/?][A-Za-z0-9/?&=%._-]{0,20})?", fullmatch=True)
ports = st.none() | st.integers(1, 65535)


@given(st.sampled_from(["127.0.0.1", "[::1]", "localhost"]), ports, ports, paths, paths)
async def test_a_loopback_redirect_may_have_any_port_and_no_other_path(
    host: str, port: int | None, other_port: int | None, path: str, other_path: str
) -> None:
    registered, asked = _loopback(host, port, path), _loopback(host, other_port, other_path)
    assert redirect_uri_matches(asked, [registered]) == (path == other_path)
    assert not redirect_uri_matches(asked.replace("http:", "https:", 1), [registered])


@given(paths, st.dictionaries(st.sampled_from(["code", "state", "iss", "error"]), text, min_size=1))
async def test_an_authorization_response_brings_every_parameter_once_and_leaves_the_others(
    path: str, parameters: dict[str, str]
) -> None:
    uri = f"https://app.example.com{path}"
    answered = urlsplit(with_parameters(uri, parameters))
    assert (answered.netloc, answered.path) == ("app.example.com", urlsplit(uri).path)
    had = parse_qsl(urlsplit(uri).query, keep_blank_values=True, errors="surrogateescape")
    kept = [pair for pair in had if pair[0] not in parameters]
    given = parse_qsl(answered.query, keep_blank_values=True, errors="surrogateescape")
    assert given == [*kept, *parameters.items()]


def _loopback(host: str, port: int | None, path: str) -> str:
    return f"http://{host}{'' if port is None else f':{port}'}{path}"


def _quoted(name: str) -> bytes:
    return Person(subject=name).dump().partition(b":")[2].partition(b',"name"')[0]


def _request(headers: list[tuple[bytes, bytes]], body: bytes = b"") -> EndpointRequest:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    kind = [] if any(name == b"content-type" for name, _ in headers) else [(b"content-type", FORM)]
    return EndpointRequest("token", {"method": "POST", "headers": [*headers, *kind]}, receive)
