"""The built-in pages as HTML: readable on a phone and by a screen reader, light and dark. Pure.

Whatever a client or a person wrote goes through ``shown``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from html import escape

from .page_values import Application, ApplicationsPage, ConsentPage, ErrorPage, Field, LoginPage, Page

MAX_SHOWN_CHARS = 128
_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))  # controls, text direction, surrogates, line breaks

_STYLE = """
:root { color-scheme: light dark; --accent: COLOUR; --text: #1c1c1e; --muted: #56565c; --page: #f4f4f6; --card: #fff;
  --line: #77777d; --warn: #7a3e00; --warn-page: #fff4e5; --bad: #a30000; }
@media (prefers-color-scheme: dark) { :root { --text: #f2f2f4; --muted: #b4b4bb; --page: #161618; --card: #222225;
  --line: #8c8c93; --warn: #ffcf99; --warn-page: #3a2a14; --bad: #ff9d9d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 30rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; overflow-wrap: anywhere; }
header { max-width: 30rem; margin: 0 auto; padding: 1.5rem 1rem 0; font-weight: 600; }
header img { display: block; max-height: 3rem; max-width: 100%; margin-bottom: .5rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1.25rem; }
h1 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 1rem; }
h2 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
label { display: block; margin: .75rem 0 .25rem; font-weight: 600; }
input { width: 100%; font: inherit; padding: .6rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--card); color: var(--text); }
button, .button { display: inline-block; font: inherit; font-weight: 600; padding: .65rem 1.1rem; border-radius: .5rem;
  border: 2px solid var(--accent); background: var(--accent); color: #fff; cursor: pointer; text-decoration: none;
  min-height: 44px; }
button.plain { background: transparent; color: var(--text); border-color: var(--line); }
:focus-visible { outline: 3px solid var(--text); outline-offset: 2px; }
.buttons { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.25rem; }
.note { color: var(--muted); margin: .25rem 0; }
.warning { background: var(--warn-page); color: var(--warn); border-left: 4px solid; padding: .6rem .8rem; }
.problem { color: var(--bad); font-weight: 600; }
dl { margin: 0; } dt { color: var(--muted); margin-top: .6rem; } dd { margin: 0; font-weight: 600; }
ul { margin: .25rem 0; padding-left: 1.25rem; }
article { border-top: 1px solid var(--line); padding: 1rem 0; } article:first-of-type { border-top: 0; }
article h2 { margin-top: 0; }
"""


def shown(text: str) -> str:
    """Return text of somebody else's as it can be shown: escaped, on one line, nothing invisible, not too long."""
    visible = "".join(" " if char.isspace() else char for char in text if unicodedata.category(char) not in _INVISIBLE)
    plain = " ".join(visible.split())
    return escape(plain if len(plain) <= MAX_SHOWN_CHARS else plain[: MAX_SHOWN_CHARS - 1] + "…")


def login(page: LoginPage, logo: str | None, colour: str) -> str:
    """Return the sign-in page."""
    reason = f"<p>to continue to <strong>{shown(page.client)}</strong></p>" if page.client else ""
    problem = f'<p class="problem" role="alert" id="problem">{escape(page.error)}</p>' if page.error else ""
    fields = "".join(_field(each, has_error=bool(page.error)) for each in page.fields)
    body = f"""<h1>Sign in</h1>{reason}{problem}
<form method="post" action="{escape(page.action)}">{_hidden(page.hidden)}{fields}
<div class="buttons"><button type="submit">{escape(page.button)}</button></div></form>"""
    return _document(page, f"Sign in – {page.title}", body, logo, colour)


def consent(page: ConsentPage, logo: str | None, colour: str) -> str:
    """Return the consent page."""
    name = shown(page.client)
    unverified = (
        "" if page.is_verified else '<p class="note">The application chose this name; nobody has checked it.</p>'
    )
    home = f"<dt>Described at</dt><dd>{shown(page.client_host)}</dd>" if page.client_host else ""
    host = shown(page.redirect_host)
    target = f"a program on this device ({host})" if page.is_loopback else host
    scopes = "".join(f"<li>{shown(description)}</li>" for _, description in page.scopes)
    wishes = f"<h2>It will be able to</h2><ul>{scopes}</ul>" if scopes else ""
    body = f"""<h1>Allow “{name}” to act for you?</h1>{unverified}{_warnings(page)}
<dl><dt>Your account</dt><dd>{shown(page.account)}</dd>{home}<dt>Access to</dt><dd>{shown(page.resource)}</dd>
<dt>Afterwards you are sent to</dt><dd>{target}</dd></dl>{wishes}
<form method="post" action="{escape(page.action)}">{_hidden(page.hidden)}
<div class="buttons"><button type="submit" name="action" value="approve">Allow</button>
<button type="submit" name="action" value="deny" class="plain">Deny</button>
<button type="submit" name="action" value="switch" class="plain">Use another account</button></div></form>"""
    return _document(page, f"Allow access – {page.title}", body, logo, colour)


def applications(page: ApplicationsPage, logo: str | None, colour: str) -> str:
    """Return the page of allowed applications."""
    entries = "".join(_application(page, each) for each in page.applications)
    body = f"""<h1>Your applications</h1><p>Signed in as <strong>{shown(page.account)}</strong>.</p>
{entries or "<p>You have not allowed any application yet.</p>"}
<form method="post" action="{escape(page.logout_action)}">{_hidden(page.logout_hidden)}
<div class="buttons"><button type="submit" class="plain">Sign out</button></div></form>"""
    return _document(page, f"Your applications – {page.title}", body, logo, colour)


def error(page: ErrorPage, logo: str | None, colour: str) -> str:
    """Return an error page."""
    link = ""
    if page.link is not None:
        url, label = page.link
        link = f'<div class="buttons"><a class="button" href="{escape(url)}" rel="noreferrer">{shown(label)}</a></div>'
    body = f"<h1>{escape(page.heading)}</h1><p>{escape(page.text)}</p>{link}"
    return _document(page, f"{page.heading} – {page.title}", body, logo, colour)


def _warnings(page: ConsentPage) -> str:
    warnings: list[str] = []
    if page.is_loopback:
        warnings.append(
            "The access goes to a program on this device, and any program here can say that it is this application. "
            "Go on only if you have just started it yourself."
        )
    if page.client_host and not page.is_loopback and page.client_host != page.redirect_host:
        warnings.append("The application is described at another place than the one that you are sent to.")
    return "".join(f'<p class="warning">{escape(each)}</p>' for each in warnings)


def _application(page: ApplicationsPage, application: Application) -> str:
    name = shown(application.name)
    scopes = ", ".join(map(shown, application.scopes))
    hidden = _hidden({**page.hidden, "client_id": application.client_id})
    return f"""<article><h2>{name}</h2><p class="note">Allowed since {escape(application.since)}</p>
<p>{scopes}</p><form method="post" action="{escape(page.action)}">{hidden}
<button type="submit" class="plain" aria-label="Revoke {name}">Revoke</button></form></article>"""


def _field(field: Field, *, has_error: bool) -> str:
    described = ' aria-describedby="problem" aria-invalid="true"' if has_error else ""
    name = escape(field.name)
    return f"""<label for="{name}">{escape(field.label)}</label>
<input id="{name}" name="{name}" type="{escape(field.type)}" value="{escape(field.value)}" \
autocomplete="{escape(field.autocomplete)}" autocapitalize="none" spellcheck="false" required{described}>"""


def _hidden(values: Mapping[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in values.items()
    )


def _document(page: Page, title: str, body: str, logo: str | None, colour: str) -> str:
    image = f'<img src="{escape(logo)}" alt="">' if logo else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style nonce="{escape(page.nonce)}">{_STYLE.replace("COLOUR", colour)}</style></head>
<body><header>{image}{escape(page.title)}</header><main><section>{body}</section></main></body></html>
"""
