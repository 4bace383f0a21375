"""The built-in pages as HTML: readable on a phone and by a screen reader, light and dark. Pure.

Whatever a client or a person wrote goes through ``shown``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from html import escape

from .models import Application, ApplicationsPage, ConsentPage, Field, LoginPage, MessagePage, Page

MAX_SHOWN_CHARS = 128
MAX_NAME_CHARS = 64  # enough for a name, and not for a story
MAX_HOST_CHARS = 260  # a name of 253 and a port
MAX_MARKS = 2  # on one letter; more of them would reach over what stands around it

# Controls, text direction, surrogates, nothing at all; and what encloses its letter, and others
# besides.
_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Me"))
_QUOTES = str.maketrans(dict.fromkeys('"“”„‟«»″〃〝〞〟\uff02', "'"))  # ours stand around names
# Letters that are drawn as nothing: fillers, the empty Braille cell, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)

_STYLE = """
:root { color-scheme: light dark; --accent: COLOUR; --on-accent: CONTRAST; --text: #1c1c1e; --muted: #56565c;
  --page: #f3f3f6; --card: #fff; --line: #d9d9e0; --edge: #77777d; --warn: #6b3600; --warn-page: #fff4e5;
  --bad: #a30000; --bad-page: #fdeeee; }
@media (prefers-color-scheme: dark) { :root { --text: #f2f2f4; --muted: #b4b4bb; --page: #141416; --card: #1f1f22;
  --line: #3c3c42; --edge: #8c8c93; --warn: #ffcf99; --warn-page: #38290f; --bad: #ffb0b0; --bad-page: #3d1d1d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
header, main { max-width: 30rem; margin: 0 auto; overflow-wrap: anywhere; }
header { padding: 2rem calc(2.25rem + 1px) .75rem; font-weight: 600; }
header img { display: block; max-height: 3rem; max-width: 100%; margin-bottom: .5rem; }
main { padding: 0 1rem 3rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1.5rem 1.25rem; }
h1 { font-size: 1.375rem; line-height: 1.3; margin: 0 0 .75rem; }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .75rem 0; }
a { color: inherit; text-underline-offset: .15em; }
label { display: block; margin: 1rem 0 .35rem; font-weight: 600; }
input { width: 100%; font: inherit; padding: .6rem .7rem; border: 1px solid var(--edge); border-radius: .5rem;
  background: var(--card); color: var(--text); }
button, .button { display: inline-block; font: inherit; font-weight: 600; padding: .6rem 1.2rem; border-radius: .5rem;
  border: 1px solid var(--accent); background: var(--accent); color: var(--on-accent); cursor: pointer;
  text-decoration: none; min-height: 2.75rem; max-width: 100%; overflow-wrap: anywhere; }
button.plain { background: transparent; color: var(--text); border-color: var(--edge); }
:focus-visible { outline: 3px solid var(--text); outline-offset: 2px; }
.buttons { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.5rem; }
.note { color: var(--muted); font-size: .9375rem; }
.warning, .problem { padding: .7rem .9rem; border-radius: .5rem; border: 1px solid; }
.warning { background: var(--warn-page); color: var(--warn); }
.problem { background: var(--bad-page); color: var(--bad); font-weight: 600; }
dl { margin: 1rem 0 0; border-top: 1px solid var(--line); }
dl div { padding: .6rem 0; border-bottom: 1px solid var(--line); }
dt { color: var(--muted); font-size: .9375rem; } dd { margin: 0; font-weight: 600; }
ul { margin: .25rem 0; padding-left: 1.25rem; } li { margin: .25rem 0; }
article { border-top: 1px solid var(--line); padding: 1.25rem 0; } article h2 { margin: 0; }
article p { margin: .35rem 0; } article button { margin-top: .5rem; }
footer { border-top: 1px solid var(--line); }
"""


def shown(text: str, max_chars: int = MAX_SHOWN_CHARS) -> str:
    """Return text of somebody else's as it can be shown: escaped, on one line, nothing invisible,
    not too long.
    """
    visible = "".join(
        " " if char.isspace() else char
        for char in text[: 8 * MAX_SHOWN_CHARS]
        if char.isspace() or (unicodedata.category(char) not in _INVISIBLE and char not in _BLANK)
    )
    kept: list[str] = []
    marks = 0
    # now, so that nothing stands between a letter and its marks
    for char in unicodedata.normalize("NFC", visible):
        marks = marks + 1 if unicodedata.category(char) == "Mn" else 0
        if marks <= MAX_MARKS:
            kept.append(char)
    plain = " ".join("".join(kept).split())
    return escape(plain if len(plain) <= max_chars else plain[: max_chars - 1] + "…")


def shown_host(host: str) -> str:
    """Return a host as it can be shown. Who owns it stands at its end, so that is never what is
    left out.
    """
    return escape(host if len(host) <= MAX_HOST_CHARS else "…" + host[1 - MAX_HOST_CHARS :])


def text_on(colour: str) -> str:
    """Return white or black, whichever can be read on ``#rrggbb`` (WCAG 2.2, contrast of at least
    4.5).
    """
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return (
        "#fff" if 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5 else "#000"
    )


def login(page: LoginPage, logo: str | None, colour: str) -> str:
    """Return the sign-in page."""
    reason = f"<p>{_name(page.client)} asks for access.</p>" if page.client else ""
    problem = (
        f'<p class="problem" role="alert" id="problem">{escape(page.error)}</p>'
        if page.error
        else ""
    )
    first = next(
        (each.name for each in page.fields if not each.value),
        page.fields[-1].name if page.fields else "",
    )
    fields = "".join(
        _field(each, has_error=bool(page.error), has_focus=each.name == first)
        for each in page.fields
    )
    body = f"""<h1>Sign in</h1>{reason}{problem}
<form method="post" action="{escape(page.action)}">{_hidden(page.hidden)}{fields}
<div class="buttons"><button type="submit">{escape(page.button)}</button></div></form>"""
    return _document(
        page, f"{'Error: ' if page.error else ''}Sign in – {page.title}", body, logo, colour
    )


def _account(page: ConsentPage) -> str:
    if page.account is not None:
        return shown(page.account)
    return (
        f"You sign in next, at {shown_host(page.provider_host)}"
        if page.provider_host
        else "You sign in next"
    )


def consent(page: ConsentPage, logo: str | None, colour: str) -> str:
    """Return the consent page."""
    unverified = (
        ""
        if page.is_verified
        else '<p class="note">The application chose this name; nobody has checked it.</p>'
    )
    target = shown_host(page.redirect_host)
    facts = [
        ("Your account", _account(page)),
        ("Your provider is asked for", ", ".join(map(shown, page.provider_scopes)) or None),
        ("Described at", shown_host(page.client_host) if page.client_host else None),
        ("Gets access to", shown_host(page.resource)),
        (
            "Afterwards you are sent to",
            f"a program on this device ({target})" if page.is_on_device else target,
        ),
    ]
    entries = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts if value is not None
    )
    scopes = "".join(f"<li>{shown(description)}</li>" for _, description in page.scopes)
    wishes = f"<h2>It will be able to</h2><ul>{scopes}</ul>" if scopes else ""
    switch = (
        ""
        if page.account is None
        else (
            '<button type="submit" name="action" value="switch" class="plain">Use another'
            " account</button>"
        )
    )
    later = (
        '<p class="note">You can take this back at any time: <a'
        f' href="{escape(page.applications_url)}">your applications</a>.</p>'
        if page.applications_url
        else ""
    )
    body = f"""<h1>Allow {_name(page.client)} to act for you?</h1>{unverified}{_warnings(page)}
<dl>{entries}</dl>{wishes}
<form method="post" action="{escape(page.action)}">{_hidden(page.hidden)}
<div class="buttons"><button type="submit" name="action" value="approve">Allow</button>
<button type="submit" name="action" value="deny" class="plain">Deny</button>
{switch}</div></form>{later}"""
    return _document(page, f"Allow access? – {page.title}", body, logo, colour)


def applications(page: ApplicationsPage, logo: str | None, colour: str) -> str:
    """Return the page of allowed applications."""
    entries = "".join(_application(page, each) for each in page.applications)
    account = f"<strong>{shown(page.account)}</strong>"
    lead = (
        f"These may act for {account}." if entries else f"No application may act for {account} yet."
    )
    body = f"""<h1>Your applications</h1><p>{lead}</p>{entries}
<footer><form method="post" action="{escape(page.logout_action)}">{_hidden(page.logout_hidden)}
<div class="buttons"><button type="submit" class="plain">Sign out</button></div></form></footer>"""
    return _document(page, f"Your applications – {page.title}", body, logo, colour)


def error(page: MessagePage, logo: str | None, colour: str) -> str:
    """Return an error page."""
    link = ""
    if page.link is not None:
        url, label = page.link
        anchor = f'<a class="button" href="{escape(url)}" rel="noreferrer">{shown_host(label)}</a>'
        link = f'<div class="buttons">{anchor}</div>'
    body = f"<h1>{escape(page.heading)}</h1><p>{escape(page.text)}</p>{link}"
    return _document(page, f"{page.heading} – {page.title}", body, logo, colour)


def _name(text: str) -> str:
    # Set apart, so that it can neither pass for words of ours nor turn their direction.
    name = shown(text.translate(_QUOTES), MAX_NAME_CHARS)
    return f"<bdi>“{name}”</bdi>" if name else "an application without a name"


def _warnings(page: ConsentPage) -> str:
    warnings: list[str] = []
    if page.is_on_device:
        warnings.append(
            "The access goes to a program on this device, and any program here can say that it is"
            " this application. Go on only if you have just started it yourself."
        )
    elif page.client_host and page.client_host != page.redirect_host:
        warnings.append(
            "The application is described at another place than the one that you are sent to."
        )
    return "".join(f'<p class="warning">{escape(each)}</p>' for each in warnings)


def _application(page: ApplicationsPage, application: Application) -> str:
    name = _name(application.name)
    scopes = "".join(f"<li>{shown(each)}</li>" for each in application.scopes)
    hidden = _hidden({**page.hidden, "client_id": application.client_id})
    label = f"Revoke {shown(application.name, MAX_NAME_CHARS) or 'the application without a name'}"
    return f"""<article><h2>{name}</h2>
<p class="note">{shown_host(application.host)}, allowed on {escape(application.since)}</p><ul>{scopes}</ul>
<form method="post" action="{escape(page.action)}">{hidden}
<button type="submit" class="plain" aria-label="{label}">Revoke</button></form></article>"""


def _field(field: Field, *, has_error: bool, has_focus: bool) -> str:
    described = ' aria-describedby="problem" aria-invalid="true"' if has_error else ""
    focus = " autofocus" if has_focus else ""
    name = escape(field.name)
    return f"""<label for="{name}">{escape(field.label)}</label>
<input id="{name}" name="{name}" type="{escape(field.type)}" value="{escape(field.value)}" \
autocomplete="{escape(field.autocomplete)}" autocapitalize="none" spellcheck="false" required{described}{focus}>"""


def _hidden(values: Mapping[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in values.items()
    )


def _document(page: Page, title: str, body: str, logo: str | None, colour: str) -> str:
    style = _STYLE.replace("COLOUR", colour).replace("CONTRAST", text_on(colour))
    image = f'<img src="{escape(logo)}" alt="">' if logo else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style nonce="{escape(page.nonce)}">{style}</style></head>
<body><header>{image}{escape(page.title)}</header><main><section>{body}</section></main></body></html>
"""
