"""Every wrong setting of the authorization server is a ConfigurationError with its correction."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgi_mcp_auth import (
    AppLogin,
    ConfigurationError,
    DevLogin,
    MCPAuthMiddleware,
    OAuthProvider,
    PasswordLogin,
    RemoteAuthProvider,
    store_from_url,
)
from asgi_mcp_auth.server import (
    Lifetimes,
    Pages,
    RateLimits,
    Registration,
    ServerOptions,
    hash_password,
)
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from tests.support.asgi import Spy
from tests.support.authorization_server import CONFIDENTIAL, KEY, WEB_REDIRECT_URI, memory_store
from tests.support.gate import signing_key
from tests.support.rows import rows
from tests.verifiers.test_settings import BASE_URLS, NOT_NUMBERS

ROOT = Path(__file__).parents[2]
NOBODY = PasswordLogin(lambda name: None)
SECRET = "a-secret-that-has-at-least-32-characters"


def provider(**settings: Any) -> OAuthProvider:
    usual = {"base_url": "https://mcp.example.com", "login": NOBODY, "store": memory_store()}
    return OAuthProvider(**{**usual, **settings})


def lifetimes(**settings: Any) -> Lifetimes:
    return Lifetimes(**settings)


def rates(**settings: Any) -> RateLimits:
    return RateLimits(**settings)


def registration(**settings: Any) -> Registration:
    return Registration(**settings)


def options(**settings: Any) -> ServerOptions:
    return ServerOptions(**settings)


def pages(**settings: Any) -> Pages:
    return Pages(**settings)


Maker = Callable[..., Any]
MAKERS: list[Maker] = [provider, lifetimes, rates, registration, options, pages]


@rows("make", MAKERS, ids=lambda make: make.__name__)
def test_what_the_cases_below_change_is_itself_correct(make: Maker) -> None:
    make()


# ----------------------------------------------------------------------------------------- provider


@pytest.mark.case("Z125")
@rows(("url", "advice"), BASE_URLS, ids=lambda value: repr(value)[:50])
@rows(("make", "setting"), [(provider, "base_url"), (options, "resource_base_url")])
def test_a_url_of_ours_is_absolute_https_plain_and_a_str(
    make: Maker, setting: str, url: Any, advice: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{setting}\b[\s\S]*({advice})"):
        make(**{setting: url})


@rows(
    "login", [None, "alice", {"alice": "password"}, PasswordLogin, DevLogin, lambda request: None]
)
def test_the_error_for_a_missing_login_names_the_choices(login: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^login=.* must say how people sign in"
    ) as refused:
        provider(login=login)
    for choice in (
        "PasswordLogin({'alice': hash_password('…')})",
        "AppLogin('https://…')",
        "DevLogin()",
    ):
        assert choice in str(refused.value)


def test_a_login_that_is_left_out_is_a_missing_login() -> None:
    with pytest.raises(ConfigurationError, match=r"^login=None must say how people sign in"):
        OAuthProvider(base_url="https://mcp.example.com", store=memory_store())


@pytest.mark.case("Z125")
@pytest.mark.parametrize(
    "base_url", ["https://mcp.example.com", "https://10.0.0.1", "https://localhost.example.com"]
)
def test_development_logins_are_for_this_machine(base_url: str) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^DevLogin lets anyone in, and base_url=.* is not loopback: write",
    ):
        provider(base_url=base_url, login=DevLogin())
    with pytest.raises(
        ConfigurationError, match=r"^PasswordLogin has a plain password for 'alice'.*hash_password"
    ) as refused:
        provider(
            base_url=base_url,
            login=PasswordLogin({"alice": "correct horse", "bob": hash_password("x")}),
        )
    assert "correct horse" not in str(refused.value)


@pytest.mark.parametrize(
    "base_url", ["http://localhost:8000", "http://127.0.0.1", "https://[::1]:8443"]
)
def test_development_logins_work_on_this_machine(base_url: str) -> None:
    provider(base_url=base_url, login=DevLogin())
    provider(base_url=base_url, login=PasswordLogin({"alice": "correct horse"}))


STORES: list[tuple[Any, str]] = [
    (MemoryStore(), r"would keep secrets in the clear: write EncryptedStore\(store, keys=\[…\]\)"),
    (None, "must be a URL, like 'sqlite:///auth.db', or what store_from_url"),
    (5, "must be a URL, like 'sqlite:///auth.db', or what store_from_url"),
    (Path("auth.db"), "must be a URL, like 'sqlite:///auth.db', or what store_from_url"),
    (EncryptedStore, r"write EncryptedStore\(store, keys=\[…\]\)"),
    ("auth.db", "must be a Store or a URL: sqlite:///auth.db"),
    ("sqlite:auth.db", "write sqlite:///auth.db for a file in the working directory"),
    ("mysql://localhost/x", "mysql: is not one of sqlite:///"),
    ("redis://localhost", "Redis needs encryption_keys.*write store=store_from_url"),
    ("postgresql://localhost/x", "PostgreSQL needs encryption_keys.*write store=store_from_url"),
]


@rows(("store", "advice"), STORES, ids=lambda value: repr(value)[:40])
def test_a_store_is_a_url_or_what_store_from_url_returns(store: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"[\s\S]*({advice})") as refused:
        provider(store=store)
    assert "store" in str(refused.value)


SCOPES: list[Any] = ["mcp:read", ["a b"], [""], ['"a"'], ["ä"], [5], 5, b"a"]


@rows("scopes", SCOPES, ids=repr)
@rows("setting", ["required_scopes", "scopes_supported"])
def test_scopes_are_a_list_of_scope_tokens(setting: str, scopes: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"^{setting}\b.*(must be a list of scopes|is not one scope)"
    ):
        provider(**{setting: scopes})


@pytest.mark.parametrize(
    ("schemes", "advice"),
    [
        ("cursor", "must be a list of lower-case schemes without ://, like"),
        (["cursor://"], "must be a list of lower-case schemes without ://"),
        (["Cursor"], "must be a list of lower-case schemes"),
        ([""], "must be a list of lower-case schemes"),
        ([5], "must be a list of lower-case schemes"),
        (5, "must be a list of lower-case schemes"),
        pytest.param(iter(["cursor"]), "must be a list of lower-case schemes", id="iterator"),
        (["javascript"], "has a scheme that is no application's own: remove it"),
        (["https"], "has a scheme that is no application's own: remove it"),
        (["data", "cursor"], "has a scheme that is no application's own: remove it"),
    ],
    ids=repr,
)
def test_redirect_schemes_are_names_of_an_applications_own(schemes: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^allowed_redirect_schemes=.* {advice}"):
        provider(allowed_redirect_schemes=schemes)


SWITCHES: list[tuple[Maker, str]] = [
    (provider, "allow_dynamic_registration"),
    *((registration, name) for name in ("management", "development_documents")),
    *((options, name) for name in ("rotate_confidential", "require_pushed_requests")),
]


@rows("value", [None, 0, 1, "yes", "false", []], ids=repr)
@rows(("make", "setting"), SWITCHES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_switch_is_true_or_false(make: Maker, setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{setting}=.* must be True or False"):
        make(**{setting: value})


@rows(
    ("setting", "kind"),
    [
        ("rate_limits", "RateLimits"),
        ("lifetimes", "Lifetimes"),
        ("registration", "Registration"),
        ("pages", "Pages"),
        ("options", "ServerOptions"),
    ],
)
@rows("value", [{"x": 1}, "defaults", 5, True, Registration], ids=repr)
def test_a_group_of_settings_is_its_object(setting: str, kind: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{setting}=.* must be a {kind}"):
        provider(**{setting: value})


# ------------------------------------------------------------------------------------------ numbers

SECONDS: list[tuple[Maker, str, float, float | None]] = [
    (lifetimes, "access_token_seconds", 1, 86_400),
    (lifetimes, "code_seconds", 1, 600),
    (lifetimes, "refresh_token_seconds", 1, 3650 * 86_400),
    (lifetimes, "refresh_idle_seconds", 1, 3650 * 86_400),
    (lifetimes, "session_seconds", 1, 3650 * 86_400),
    (lifetimes, "session_idle_seconds", 1, 3650 * 86_400),
    (lifetimes, "transaction_seconds", 10, 3600),
    (lifetimes, "pushed_request_seconds", 5, 600),
    (lifetimes, "consent_seconds", 0, 400 * 86_400),
    (lifetimes, "code_leeway_seconds", 0, 30),
    (lifetimes, "refresh_leeway_seconds", 0, 300),
    (lifetimes, "revocation_lag_seconds", 0, 300),
    (registration, "unused_seconds", 60, None),
    (registration, "client_seconds", 60, None),
    (options, "key_rotation_seconds", 2 * 86_400, None),
]


def test_every_lifetime_has_its_bounds() -> None:
    assert {name for make, name, _, _ in SECONDS if make is lifetimes} == set(Lifetimes.__slots__)


@rows(
    ("make", "setting", "least", "most"),
    SECONDS,
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_number_of_seconds_has_bounds(
    make: Maker, setting: str, least: float, most: float | None
) -> None:
    make(**{setting: least})
    wrong = [least - 0.5] if most is None else [least - 0.5, most + 1]
    if most is not None:
        make(**{setting: most})
    for value in [*wrong, *NOT_NUMBERS]:
        with pytest.raises(ConfigurationError, match=rf"^{setting}=.* must be a number of seconds"):
            make(**{setting: value})


@rows("setting", ["register", "authorize", "token", "login_failures"])
def test_a_rate_is_a_whole_number_of_at_least_one(setting: str) -> None:
    rates(**{setting: 1})
    for value in (-1, 1.5, "10", None, True, float("nan")):
        with pytest.raises(
            ConfigurationError, match=rf"^{setting}=.* must be a whole number, 0 or more"
        ):
            rates(**{setting: value})
    with pytest.raises(
        ConfigurationError,
        match=rf"^{setting}=0 would refuse all requests: write rate_limits=None",
    ):
        rates(**{setting: 0})


def test_room_for_unfinished_sign_ins_holds_at_least_one() -> None:
    rates(unfinished_bytes=16_384)
    with pytest.raises(
        ConfigurationError,
        match=r"^unfinished_bytes=1 is too small for one sign-in: write at least 16384",
    ):
        rates(unfinished_bytes=1)


# ------------------------------------------------------------------------------------- registration


@rows("token", ["", "short", "x" * 31, b"x" * 32, 5], ids=repr)
def test_an_initial_access_token_cannot_be_guessed(token: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^initial_access_token must have at least 32 characters: python"
    ) as refused:
        registration(initial_access_token=token)
    assert not token or str(token) not in str(refused.value)


@rows(
    ("make", "setting"),
    [
        (registration, "approve"),
        (registration, "trust_document"),
        (options, "grant_scopes"),
        (options, "on_event"),
    ],
)
@rows("value", ["print", 5, True, [print]], ids=repr)
def test_a_hook_is_a_function(make: Maker, setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{setting}=.* must be a function"):
        make(**{setting: value})


@pytest.mark.parametrize(
    "clients",
    [
        {},
        {"client_id": "x"},
        "x",
        [5],
        ["x"],
        [None],
        5,
        None,
        pytest.param(iter([]), id="iterator"),
    ],
    ids=repr,
)
def test_clients_are_a_list_of_dicts(clients: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^clients must be a list, like \[\{'client_id': …"
    ):
        registration(clients=clients)


APP = {"client_id": "app", "redirect_uris": [WEB_REDIRECT_URI]}
CLIENTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no id": (
        [{"redirect_uris": [WEB_REDIRECT_URI]}],
        r"clients\[0\] \(None\) needs a client_id, a string",
    ),
    "an empty id": (
        [{**APP, "client_id": ""}],
        r"clients\[0\] \(''\) needs a client_id, a string",
    ),
    "an id that is none": (
        [{**APP, "client_id": 5}],
        r"clients\[0\] \(5\) needs a client_id, a string",
    ),
    "an id with a line break": ([{**APP, "client_id": "a\nb"}], r"needs a client_id, a string"),
    "an id twice": ([APP, APP], r"clients\[1\] \('app'\) needs a client_id, a string"),
    "an http URL": ([{**APP, "client_id": "http://x/y"}], r"a client_id may be an https URL"),
    "a short secret": (
        [{**APP, "client_secret": "short"}],
        r"clients\[0\] \('app'\): client_secret must have at least 32 characters: python",
    ),
    "a secret that is none": (
        [{**APP, "client_secret": 5}],
        "client_secret must have at least 32 characters",
    ),
    "a secret of a public client": (
        [{**APP, "client_secret": SECRET, "token_endpoint_auth_method": "none"}],
        "client_secret does not match token_endpoint_auth_method",
    ),
    "no secret where one is needed": (
        [{**APP, "token_endpoint_auth_method": "client_secret_basic"}],
        "client_secret does not match token_endpoint_auth_method",
    ),
    "no redirect URI": ([{"client_id": "app"}], "redirect_uris is missing or empty"),
    "a redirect URI as text": (
        [{**APP, "redirect_uris": WEB_REDIRECT_URI}],
        "redirect_uris must be a list",
    ),
    "a redirect URI without TLS": (
        [{**APP, "redirect_uris": ["http://x/y"]}],
        "A redirect URI must be https",
    ),
    "a scheme that is not allowed": (
        [{**APP, "redirect_uris": ["cursor://x"]}],
        "scheme cursor is not allowed here; the operator can add it to allowed_redirect_schemes",
    ),
    "a member that is misspelled": (
        [{**APP, "redirect_uri": WEB_REDIRECT_URI}],
        "redirect_uri is not a known member of client metadata",
    ),
    "a scope that is misspelled": (
        [{**APP, "scope": "mcp:reads"}],
        "scope may contain mcp:read, mcp:write",
    ),
    "a scope beside a good one": (
        [{**APP, "scope": "mcp:read admin"}],
        "scope may contain mcp:read, mcp:write",
    ),
    "a scope that is empty": ([{**APP, "scope": ""}], "scope has no value: leave it out"),
    "a grant type that is misspelled": (
        [{**APP, "grant_types": ["authorization_code", "client_credential"]}],
        "grant_types may contain authorization_code, refresh_token, client_credentials",
    ),
    "the password grant": (
        [{**APP, "grant_types": ["password"]}],
        "grant_types may contain authorization_code, ",
    ),
    "a public client that acts for itself": (
        [{"client_id": "app", "grant_types": ["client_credentials"]}],
        "client_credentials needs a client that authenticates",
    ),
    "a client that acts for itself, which is switched off": (
        [CONFIDENTIAL],
        "grant_types may contain authorization_code, refresh_token, each once",
    ),
    "an authentication method that is none": (
        [{**APP, "token_endpoint_auth_method": "tls_client_auth"}],
        "token_endpoint_auth_method must be one of none, client_secret_basic, ",
    ),
    "keys that are none": (
        [{**APP, "jwks": {"keys": []}}],
        "jwks must be a key set with at least one usable public key",
    ),
}


@rows("case", CLIENTS)
def test_a_client_of_the_operators_is_held_to_more_than_a_strangers(case: str) -> None:
    """A limit with a mistake in it must not become none."""
    clients, advice = CLIENTS[case]
    disabled = ["client_credentials"] if case.endswith("switched off") else []
    settings = {
        "scopes_supported": ["mcp:read", "mcp:write"],
        "options": options(disabled=disabled),
    }
    with pytest.raises(ConfigurationError, match=rf"^(?=clients\[\d\]).*{advice}") as refused:
        provider(registration=registration(clients=clients), **settings)
    assert SECRET not in str(refused.value)


GOOD_CLIENTS: list[tuple[dict[str, Any], str]] = [
    (APP, "none"),
    ({**APP, "client_secret": SECRET}, "client_secret_basic"),
    (
        {**APP, "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_post"},
        "client_secret_post",
    ),
    ({**APP, "jwks": {"keys": [signing_key().public_jwk()]}}, "private_key_jwt"),
    ({**APP, "jwks_uri": "https://app.example.com/jwks"}, "private_key_jwt"),
    (
        {"client_id": "x", "client_secret": SECRET, "grant_types": ["client_credentials"]},
        "client_secret_basic",
    ),
    ({**APP, "client_id": "https://app.example.com/client.json"}, "none"),
]


@rows(("client", "method"), GOOD_CLIENTS, ids=" ".join)
def test_how_a_client_of_the_operators_authenticates_follows_from_what_it_has(
    client: dict[str, Any], method: str
) -> None:
    made = provider(registration=registration(clients=[client]))._parts.clients._configured[
        client["client_id"]
    ]
    assert (made.auth_methods, made.origin, made.expires_at) == ([method], "configured", None)


def test_documents_of_this_machine_are_for_this_machine() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^development_documents=True is for a base_url on loopback only"
    ):
        provider(registration=registration(development_documents=True))
    provider(base_url="http://localhost", registration=registration(development_documents=True))


PROXIES: list[tuple[Any, bool]] = [
    ("http://proxy:3128", True),
    ("http://proxy", True),
    ("https://proxy.example.com:3128/", True),
    ("http://us:s3cret@[::1]:3128", True),
    ("proxy:3128", False),
    ("us:s3cret@proxy:3128", False),
    ("socks5://us:s3cret@proxy:1080", False),
    ("http://us:s3cret@", False),
    ("http://proxy:0", False),
    ("http://proxy:65536", False),
    ("http://[::1", False),
    ("http://proxy/s3cret", False),
    ("http://proxy?s3cret", False),
    ("", False),
    (3128, False),
    (["http://proxy:3128"], False),
]


@pytest.mark.rule("AS-98")
@pytest.mark.parametrize(("value", "fine"), PROXIES, ids=repr)
def test_a_proxy_is_a_url_and_its_password_is_not_shown(value: Any, fine: bool) -> None:
    if fine:
        assert "s3cret" not in repr(registration(document_proxy=value))
        return
    with pytest.raises(ConfigurationError, match=r"^document_proxy must be .*'http://") as raised:
        registration(document_proxy=value)
    assert "s3cret" not in str(raised.value)


def test_a_ca_file_belongs_to_documents_of_this_machine(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^development_ca_file needs development_documents=True"
    ):
        registration(development_ca_file="ca.pem")
    with pytest.raises(ConfigurationError, match=r"^development_ca_file=5 must be a str"):
        registration(development_ca_file=5, development_documents=True)
    missing = registration(development_ca_file=str(tmp_path / "ca.pem"), development_documents=True)
    with pytest.raises(ConfigurationError, match=r"^the CA file .*ca\.pem' cannot be read"):
        provider(base_url="http://localhost", registration=missing)


# ------------------------------------------------------------------------------------------ options


@rows(
    ("value", "advice"),
    [
        ("oauth", "must be a path that begins with a slash"),
        ("/", "must not end in a slash"),
        ("/oauth/", "must not end in a slash"),
        ("/a//b", "must be a plain path"),
        ("/a/../b", "must be a plain path"),
        ("/a?b", "must be a plain path"),
        ("/ä", "has characters that a URL cannot have"),
        (None, "must be a path that begins with a slash"),
        (5, "must be a path that begins with a slash"),
    ],
    ids=repr,
)
def test_a_prefix_is_a_plain_path(value: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^path_prefix=.* {advice}"):
        options(path_prefix=value)


@rows("value", ["HS256", "none", "PS256", "es256", "", None, ["ES256"], 5], ids=repr)
def test_a_signing_algorithm_is_one_of_three(value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^signing_algorithm=.* must be one of ES256, RS256, EdDSA"
    ):
        options(signing_algorithm=value)


@pytest.mark.parametrize(
    "value",
    ["par", None, 5, {"par": True}, [5], pytest.param(iter(["par"]), id="iterator")],
    ids=repr,
)
def test_what_is_switched_off_is_a_list(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^disabled must be a list, like \['par'\]"):
        options(disabled=value)


def test_what_is_switched_off_has_to_be_there() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^disabled has 'token', which cannot be switched off: revoke, introspect, par,"
        r" applications, client_credentials can be$",
    ):
        provider(options=options(disabled=["par", "token"]))
    with pytest.raises(
        ConfigurationError,
        match=r"^require_pushed_requests=True needs the endpoint that disabled=\['par'\]",
    ):
        options(disabled=["par"], require_pushed_requests=True)


@rows(
    "value", ["a", ["a"], {"a": "b"}, {"a": ["b c"]}, {"": ["a"]}, {5: ["a"]}, {"a": 5}], ids=repr
)
def test_a_hierarchy_is_a_dict_of_lists_of_scopes(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^scope_hierarchy\b"):
        options(scope_hierarchy=value)


@pytest.mark.parametrize(
    "value", [None, 5, pytest.param(lambda: 0, id="function"), "time"], ids=repr
)
def test_a_clock_tells_both_times(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^clock=.* must have time\(\) and monotonic\(\)"):
        options(clock=value)


@rows(
    ("settings", "advice"),
    [
        ({"color": "blue"}, "^color='blue' must be written as #rrggbb"),
        ({"color": "#fff"}, "^color='#fff' must be written as #rrggbb"),
        ({"color": 5}, "^color=5 must be written as #rrggbb"),
        ({"color": None}, "^color=None must be written as #rrggbb"),
        ({"logo": "https://example.com/logo.png"}, "^logo must be a data: URI"),
        ({"logo": 5}, "^logo must be a data: URI"),
        ({"title": 5}, "^title=5 must be a str"),
        ({"title": None}, "^title=None must be a str"),
        ({"scope_descriptions": ["a"]}, "^scope_descriptions must be a dict"),
        ({"scope_descriptions": {"a": 5}}, "^scope_descriptions must be a dict"),
        ({"render": print}, "^render must be a dict"),
        (
            {"render": {"welcome": print}},
            "^render has 'welcome': give functions for login, consent, applications, error",
        ),
        ({"render": {"error": "page"}}, "^render has 'error': give functions for"),
    ],
    ids=str,
)
def test_pages_are_told_what_they_can_show(settings: dict[str, Any], advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        pages(**settings)


@rows(
    ("url", "advice"),
    [each for each in BASE_URLS if "query" not in each[1]],
    ids=lambda value: repr(value)[:50],
)
def test_the_applications_own_sign_in_page_is_a_url_of_ours(url: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^login_url\b[\s\S]*({advice})"):
        AppLogin(url)


# ---------------------------------------------------------------------- settings together, warnings


def test_a_second_path_for_the_same_provider_is_refused() -> None:
    made = provider()
    MCPAuthMiddleware(Spy(), made, mcp_path="/mcp")
    with pytest.raises(
        ConfigurationError, match=r"^mcp_path='/other', but this provider already protects '/mcp'"
    ):
        MCPAuthMiddleware(Spy(), made, mcp_path="/other")


@pytest.mark.case("S27", "Z125")
def test_a_store_that_forgets_is_accepted_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Several workers would each have their own."""
    with caplog.at_level(logging.WARNING, "asgi_mcp_auth"):
        provider(store="memory:")
    (record,) = caplog.records
    assert (
        "loses all grants when the process ends, and several workers do not share it"
        in record.getMessage()
    )


def test_an_ordinary_server_warns_of_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.WARNING, "asgi_mcp_auth"):
        MCPAuthMiddleware(Spy(), provider(store=f"sqlite:///{tmp_path}/auth.db"), mcp_path="/mcp")
    assert caplog.records == []


def test_it_is_a_remote_auth_provider_of_its_own_issuer() -> None:
    made = provider(required_scopes=["a"], scopes_supported=["b"])
    assert isinstance(made, RemoteAuthProvider)
    assert made.authorization_servers == ["https://mcp.example.com"]
    assert made.issuers == ("https://mcp.example.com",)
    assert (made.required_scopes, made.scopes_supported) == (["a"], ["b", "a"])


IO = """
import json, sys
from pathlib import Path
from asgi_mcp_auth import MCPAuthMiddleware, OAuthProvider, PasswordLogin, store_from_url
from asgi_mcp_auth.server import Registration
import asgi_mcp_auth.stores.sqlite, asgi_mcp_auth.stores.redis, asgi_mcp_auth.stores.postgresql
import asyncpg, httpx
folder, key = sys.argv[1:]
login = PasswordLogin(lambda name: None)
seen = []
def hook(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        seen.append([event, ""])
    if event == "open" and arguments[0] and not str(arguments[0]).endswith((".py", ".pyc")):
        seen.append([event, Path(str(arguments[0])).name])
    if event == "sqlite3.connect":
        seen.append([event, ""])
sys.addaudithook(hook)
result = {}
for name, store in {
    "memory": "memory:",
    "sqlite": f"sqlite:///{folder}/auth.db",
    "redis": store_from_url("redis://192.0.2.1:1/0", encryption_keys=[key]),
    "postgresql": store_from_url("postgresql://user@192.0.2.1:1/x", encryption_keys=[key]),
}.items():
    seen.clear()
    provider = OAuthProvider(base_url="https://mcp.example.com", login=login, store=store)
    MCPAuthMiddleware(lambda *_: None, provider, mcp_path="/mcp")
    result[name] = [*seen]
print(json.dumps(result))
"""


def test_making_a_provider_touches_no_network_and_no_file_but_the_key_of_sqlite(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", IO, str(tmp_path), KEY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    assert {name: seen[name] for name in ("memory", "redis", "postgresql")} == {
        "memory": [],
        "redis": [],
        "postgresql": [],
    }
    assert {event for event, _ in seen["sqlite"]} == {"open"}
    # the folder is synced
    files = {name for _, name in seen["sqlite"] if not name.isdigit()} - {tmp_path.name}
    assert all(name.startswith("auth.db.key") for name in files)
    assert [path.name for path in tmp_path.iterdir()] == ["auth.db.key"]


def test_the_store_may_be_made_before(tmp_path: Path) -> None:
    store = store_from_url(f"sqlite:///{tmp_path}/auth.db", encryption_keys=[KEY])
    assert provider(store=store).store.inner is store.inner
