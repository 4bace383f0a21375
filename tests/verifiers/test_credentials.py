"""How this server says who it is elsewhere, and what the log advises when that is refused."""

from __future__ import annotations

import base64

import pytest

from asgi_mcp_auth._credentials import advice, client_authentication, usual_method
from asgi_mcp_auth.errors import ConfigurationError
from tests.support.rows import rows

PLAIN, ODD = "s3cret-._0", "a b+%:/=~"
ENCODED = "a+b%2B%25%3A%2F%3D~"


def decoded(headers: dict[str, str]) -> str:
    scheme, _, value = headers["authorization"].partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(value).decode()


@pytest.mark.rule("PX-15")
@rows(
    ("method", "header", "form"),
    [
        ("client_secret_basic", f"me:{ENCODED}", {}),
        ("client_secret_basic_raw", f"me:{ODD}", {}),
        ("client_secret_basic_with_id", f"me:{ENCODED}", {"client_id": "me"}),
        ("client_secret_post", None, {"client_id": "me", "client_secret": ODD}),
    ],
)
def test_a_secret_is_sent_as_the_setting_says(
    method: str, header: str | None, form: dict[str, str]
) -> None:
    headers, fields = client_authentication(method, "me", ODD)
    assert (decoded(headers) if headers else None, fields) == (header, form)


def test_an_id_with_a_colon_cannot_go_into_the_header_as_it_is() -> None:
    with pytest.raises(ConfigurationError, match="client_secret_basic_raw"):
        client_authentication("client_secret_basic_raw", "urn:me", PLAIN)
    headers, _ = client_authentication("client_secret_basic", "urn:me", PLAIN)
    assert decoded(headers) == f"urn%3Ame:{PLAIN}"


@pytest.mark.rule("PX-15")
@rows(
    ("methods", "of_plain", "of_odd"),
    [
        ((), "client_secret_basic", "client_secret_basic"),
        (("private_key_jwt",), "client_secret_basic", "client_secret_basic"),
        (("client_secret_basic",), "client_secret_basic", "client_secret_basic"),
        (("client_secret_post",), "client_secret_post", "client_secret_post"),
        (
            ("client_secret_post", "client_secret_basic"),
            "client_secret_basic",
            "client_secret_post",
        ),
    ],
)
def test_what_needs_no_encoding_in_the_form_goes_there_where_that_is_possible(
    methods: tuple[str, ...], of_plain: str, of_odd: str
) -> None:
    assert usual_method(methods, "me", PLAIN) == of_plain
    assert usual_method(methods, "me", ODD) == usual_method(methods, "m:e", PLAIN) == of_odd


@pytest.mark.rule("PX-15")
@rows(
    ("method", "secret", "ways"),
    [
        (
            "client_secret_basic",
            ODD,
            ("client_secret_post", "client_secret_basic_with_id", "client_secret_basic_raw"),
        ),
        ("client_secret_basic", PLAIN, ("client_secret_post", "client_secret_basic_with_id")),
        ("client_secret_basic_with_id", ODD, ("client_secret_post", "client_secret_basic_raw")),
        ("client_secret_basic_raw", ODD, ("client_secret_post",)),
        ("client_secret_post", ODD, ("client_secret_basic",)),
        ("bearer", ODD, ()),
    ],
)
def test_the_advice_names_the_setting_and_the_other_ways(
    method: str, secret: str, ways: tuple[str, ...]
) -> None:
    said = advice(method, "me", secret)
    assert [f"'{way}'" in said for way in ways] == [True] * len(ways)
    assert ("client_auth_method=" in said) == bool(ways)
    assert secret not in said
