"""The pages, and how an operator replaces them."""

from __future__ import annotations

import colorsys
from html import escape
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth.server import Pages
from asgi_mcp_auth.server.pages.escaping import escape_host, escape_text
from asgi_mcp_auth.server.pages.models import ApplicationsPage, ConsentPage, LoginPage, MessagePage
from asgi_mcp_auth.server.pages.style import text_on
from tests.support.authorization_server import BASE_URL, answer_of, deploy
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

LOGO = "data:image/png;base64,iVBORw0KGgo="


async def test_title_logo_and_color_are_on_every_page() -> None:
    async with deploy(pages=Pages(title="Example & Notes", logo=LOGO, color="#ffd400")) as server:
        client, browser = await server.register(), server.browser()
        login = await browser.open(client.authorization_url())
        consent = await browser.submit(login, username="alice")
        pages = [
            login,
            consent,
            await browser.open(f"{BASE_URL}/applications"),
            await browser.open(f"{BASE_URL}/consent"),
        ]
        for page in pages:
            assert "<header>" in page.text
            assert f'<img src="{LOGO}" alt="">Example &amp; Notes</header>' in page.text
            assert "– Example &amp; Notes</title>" in page.text
            assert "--accent: #ffd400; --on-accent: #000" in page.text
            assert page.text.startswith('<!doctype html>\n<html lang="en">')
            assert (
                '<meta name="viewport" content="width=device-width, initial-scale=1">' in page.text
            )


async def test_without_a_title_it_is_the_host() -> None:
    async with deploy() as server:
        page = await server.browser().open(f"{BASE_URL}/consent")
        assert "localhost:8000</header>" in page.text


async def test_whole_pages_are_replaced_and_still_work() -> None:
    seen: list[Any] = []

    def form(page: Any, *inputs: str) -> str:
        seen.append(page)
        hidden = "".join(
            f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">'
            for k, v in page.hidden.items()
        )
        return (
            '<!doctype html><form method="post"'
            f' action="{escape(page.action)}">{hidden}{"".join(inputs)}</form>'
        )

    def login(page: LoginPage) -> str:
        fields = (
            f'<input type="{each.type}" name="{each.name}" value="{escape(each.value)}">'
            for each in page.fields
        )
        return f"<h1>Mine: {escape(page.client or '')}</h1>" + form(page, *fields)

    def consent(page: ConsentPage) -> str:
        return f"<p>{escape(str(page.scopes))} {page.account} {page.redirect_host}</p>" + form(page)

    def applications(page: ApplicationsPage) -> str:
        return "".join(
            form(page, f'<input type="hidden" name="client_id" value="{each.client_id}">')
            for each in page.applications
        )

    def error(page: MessagePage) -> str:
        return f"<h1>{escape(page.heading)}</h1><p>Grüße</p>"

    render = {"login": login, "consent": consent, "applications": applications, "error": error}
    async with deploy(pages=Pages(title="Mine", render=render)) as server:
        client, browser = await server.register(client_name="<Client>"), server.browser()
        page = await browser.open(client.authorization_url())
        assert page.text.startswith("<h1>Mine: &lt;Client&gt;</h1>")
        assert page.response.header("content-security-policy") is not None
        page = await browser.submit(page, username="alice")
        assert "mcp:read" in page.text
        assert "code" in answer_of((await browser.submit(page, action="approve")).url)
        page = await browser.open(f"{BASE_URL}/applications")
        assert len(page.forms) == 1
        await browser.submit(page)
        page = await browser.open(f"{BASE_URL}/consent")
        assert page.response.body == "<h1>Something went wrong</h1><p>Grüße</p>".encode()
        assert page.response.status == 400
    assert {each.title for each in seen} == {"Mine"}
    assert len({each.nonce for each in seen}) == len(seen)


async def test_one_page_is_replaced_and_the_others_stay() -> None:
    async with deploy(pages=Pages(render={"error": lambda page: "mine"})) as server:
        assert (await server.browser().open(f"{BASE_URL}/consent")).text == "mine"
        page = await server.browser().open((await server.register()).authorization_url())
        assert "<h1>Sign in</h1>" in page.text


@rows(
    ("settings", "words"),
    [
        ({"color": "red"}, "#rrggbb"),
        ({"color": "#fff"}, "#rrggbb"),
        ({"color": "#12345g"}, "#rrggbb"),
        ({"color": "#123456\n"}, "#rrggbb"),
        ({"color": "#123456;} body { display: none"}, "#rrggbb"),
        ({"logo": "https://cdn.example.com/logo.png"}, "data: URI"),
        ({"logo": "data:text/html;base64,PHNjcmlwdD4="}, "data: URI"),
        ({"logo": "data:image/svg+xml,<svg/>"}, "data: URI"),
        ({"logo": f'{LOGO}" onerror="x'}, "data: URI"),
        ({"render": {"home": lambda page: ""}}, "login, consent, applications, error"),
        ({"render": {"login": "login.html"}}, "login, consent, applications, error"),
    ],
)
async def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Pages(**settings)


async def test_a_color_may_still_be_written_the_british_way_and_warns() -> None:
    settings: dict[str, Any] = {"colour": "#0f766e"}
    with pytest.warns(DeprecationWarning, match=r"^Pages\.colour is deprecated: write color"):
        pages = Pages(**settings)
    async with deploy(pages=pages) as server:
        page = await server.browser().open((await server.register()).authorization_url())
        assert "--accent: #0f766e" in page.text
    with (
        pytest.warns(DeprecationWarning, match="colour"),
        pytest.raises(ConfigurationError, match=r"^color='teal' must be written as #rrggbb"),
    ):
        Pages(**{**settings, "colour": "teal"})


def _luminance(color: str) -> float:
    parts = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


async def test_text_on_any_color_can_be_read() -> None:
    """WCAG 2.2 §1.4.3."""
    for step in range(1000):
        rgb = colorsys.hsv_to_rgb(step * 0.6180339887 % 1, (step % 11) / 10, (step % 13) / 12)
        color = "#" + "".join(f"{round(part * 255):02x}" for part in rgb)
        text = {"#fff": 1.0, "#000": 0.0}[text_on(color)]
        light, dark = sorted((text, _luminance(color)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, color


@pytest.mark.case("Z40")
@rows(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("<a href='x'>&", "&lt;a href=&#x27;x&#x27;&gt;&amp;"),
        ("  a \n\t b  ", "a b"),
        ("a\u2028b\u0085c", "a b c"),
        ("\u202eabc\u202c\u2066\u200f\u061c", "abc"),
        ("a\u200b\u00ad\ufeff\u2060b", "ab"),
        ("\ud800x\udfff", "x"),
        ("\ue000x\U000f0000", "x"),
        ("x" * 128, "x" * 128),
        ("x" * 129, "x" * 127 + "…"),
        ("x" * 10**6, "x" * 127 + "…"),
        ("e\u0301", "\u00e9"),
        ("日本語 עברית العربية", "日本語 עברית العربية"),
        ("\ufe0f\U000e0100", ""),
    ],
)
async def test_what_others_wrote_is_shown_as_one_plain_line(text: str, expected: str) -> None:
    assert escape_text(text) == expected


async def test_a_host_is_shown_to_its_end() -> None:
    assert escape_host("app.example.com:8443") == "app.example.com:8443"
    assert escape_host("x" * 260) == "x" * 260
    long = escape_host("app.example.com." + "x" * 400 + ".evil.example")
    assert (len(long), long[0], long.endswith(".evil.example")) == (260, "…", True)


async def test_names_of_scopes_without_a_description_are_shown_as_they_are() -> None:
    pages = Pages(scope_descriptions={"a": "Read <everything>", "b": ""})
    described = pages.describe(["a", "b", "c", "offline_access"])
    assert described == [
        ("a", "Read <everything>"),
        ("b", "b"),
        ("c", "c"),
        ("offline_access", "Keep access while you are away"),
    ]


@pytest.mark.case("Z41", "Z110")
@pytest.mark.rule("AS-65")
@rows(
    ("client_host", "redirect_host", "is_on_device", "warnings"),
    [
        (None, "app.example.com", False, []),
        ("app.example.com", "app.example.com", False, []),
        ("app.example.com", "cdn.example.com", False, ["hosted on a different site"]),
        ("app.example.com", "127.0.0.1:8123", True, ["any other program on it can claim"]),
        (None, "cursor:", True, ["any other program on it can claim"]),
    ],
)
async def test_a_document_elsewhere_and_a_program_here_are_warned_of(
    client_host: str | None, redirect_host: str, is_on_device: bool, warnings: list[str]
) -> None:
    page = ConsentPage(
        client="Client",
        is_verified=False,
        client_host=client_host,
        redirect_host=redirect_host,
        is_on_device=is_on_device,
        resource="https://mcp.example.com/mcp",
        scopes=[],
        account="alice",
        applications_url=None,
    )
    text = Pages(title="x").response(page).body.decode()
    assert text.count('class="warning"') == len(warnings)
    assert all(each in text for each in warnings)
    assert ("Application details from" in text) is (client_host is not None)
    assert redirect_host in text
