"""Renders the built-in pages as HTML, for phones and screen readers, light and dark. Pure.

Everything that a client or a user wrote is escaped here, with the functions of ``escaping`` if it
is displayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from .escaping import escape_host, escape_name, escape_text
from .models import Application, ApplicationsPage, ConsentPage, Field, LoginPage, MessagePage, Page
from .style import style_sheet


def login(page: LoginPage, logo: str | None, color: str) -> str:
    """Return the sign-in page."""
    reason = f"<p>{_name(page.client)} is requesting access.</p>" if page.client else ""
    title = f"Sign in – {page.title}"
    problem = ""
    if page.error:
        title = f"Error: {title}"
        problem = f'<p class="problem" role="alert" id="problem">{escape(page.error)}</p>'
    focused = _focused(page.fields)
    fields = "".join(
        _field(field, has_error=bool(page.error), has_focus=field.name == focused)
        for field in page.fields
    )
    body = f"""<h1>Sign in</h1>{reason}{problem}
<form method="post" action="{escape(page.action)}">{_hidden(page.hidden)}{fields}
<div class="buttons"><button type="submit">{escape(page.button)}</button></div></form>"""
    return _document(page, title, body, logo, color)


def consent(page: ConsentPage, logo: str | None, color: str) -> str:
    """Return the consent page."""
    body = f"""<h1>Allow {_name(page.client)} to act on your behalf?</h1>{_warnings(page)}
<dl>{_facts(page)}</dl>{_scopes(page)}
<form method="post" action="{escape(page.action)}">{_hidden(page.hidden)}
<div class="buttons"><button type="submit" name="action" value="approve">Allow</button>
<button type="submit" name="action" value="deny" class="plain">Deny</button>
{_switch(page)}</div></form>{_revocation(page)}"""
    return _document(page, f"Allow access? – {page.title}", body, logo, color)


def applications(page: ApplicationsPage, logo: str | None, color: str) -> str:
    """Return the page of approved applications."""
    entries = "".join(_application(page, application) for application in page.applications)
    subject = "These applications can" if page.applications else "No application can"
    lead = f"{subject} act on behalf of <strong>{escape_text(page.account)}</strong>."
    body = f"""<h1>Your applications</h1><p>{lead}</p>{entries}
<footer><form method="post" action="{escape(page.logout_action)}">{_hidden(page.logout_hidden)}
<div class="buttons"><button type="submit" class="plain">Sign out</button></div></form></footer>"""
    return _document(page, f"Your applications – {page.title}", body, logo, color)


def message(page: MessagePage, logo: str | None, color: str) -> str:
    """Return the page of a message."""
    link = ""
    if page.link is not None:
        url, label = page.link
        anchor = f'<a class="button" href="{escape(url)}" rel="noreferrer">{escape_host(label)}</a>'
        link = f'<div class="buttons">{anchor}</div>'
    form = ""
    if page.button is not None:
        form = f"""<form method="post" action="{escape(page.action)}">{_hidden(page.hidden)}
<div class="buttons"><button type="submit">{escape(page.button)}</button></div></form>"""
    body = f"<h1>{escape(page.heading)}</h1><p>{escape(page.text)}</p>{link}{form}"
    return _document(page, f"{page.heading} – {page.title}", body, logo, color)


def _name(text: str) -> str:
    # In quotes and isolated, so that a name can neither pose as text of the page nor turn the
    # direction of the text around it.
    name = escape_name(text)
    return f"<bdi>“{name}”</bdi>" if name else "an unnamed application"


def _facts(page: ConsentPage) -> str:
    """Return the entries of the list on the consent page."""
    facts = [("Your account", _account(page))]
    if page.provider_scopes:
        scopes = ", ".join(map(escape_text, page.provider_scopes))
        facts.append(("Requested from your provider", scopes))
    if page.client_host:
        facts.append(("Application details from", escape_host(page.client_host)))
    facts.append(("Gets access to", escape_host(page.resource)))
    target = escape_host(page.redirect_host)
    if page.is_on_device:
        target = f"a program on this device ({target})"
    facts.append(("You will be sent to", target))
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)


def _account(page: ConsentPage) -> str:
    if page.account is not None:
        return escape_text(page.account)
    if page.provider_host:
        return f"You will sign in next, at {escape_host(page.provider_host)}"
    return "You will sign in next"


def _warnings(page: ConsentPage) -> str:
    """Return everything that should make the user cautious."""
    warnings = ""
    if not page.is_verified:
        warnings = '<p class="note">The application chose this name. It has not been verified.</p>'
    if page.is_on_device:
        warnings += (
            '<p class="warning">This gives access to a program on this device, and any other'
            " program on it can claim to be this application. Continue only if you just started it"
            " yourself.</p>"
        )
    elif page.client_host and page.client_host != page.redirect_host:
        warnings += (
            '<p class="warning">The details of this application are hosted on a different site from'
            " the one you will be sent to.</p>"
        )
    return warnings


def _scopes(page: ConsentPage) -> str:
    if not page.scopes:
        return ""
    entries = "".join(f"<li>{escape_text(description)}</li>" for _, description in page.scopes)
    return f"<h2>It will be able to</h2><ul>{entries}</ul>"


def _switch(page: ConsentPage) -> str:
    if page.account is None:
        return ""
    attributes = 'type="submit" name="action" value="switch" class="plain"'
    return f"<button {attributes}>Use another account</button>"


def _revocation(page: ConsentPage) -> str:
    if not page.applications_url:
        return ""
    link = f'<a href="{escape(page.applications_url)}">your applications</a>'
    return f'<p class="note">You can revoke this at any time under {link}.</p>'


def _application(page: ApplicationsPage, application: Application) -> str:
    scopes = "".join(f"<li>{escape_text(scope)}</li>" for scope in application.scopes)
    hidden = _hidden({**page.hidden, "client_id": application.client_id})
    label = escape_name(application.name) or "unnamed application"
    since = f"{escape_host(application.host)}, allowed on {escape(application.since)}"
    return f"""<article><h2>{_name(application.name)}</h2>
<p class="note">{since}</p><ul>{scopes}</ul>
<form method="post" action="{escape(page.action)}">{hidden}
<button type="submit" class="plain" aria-label="Revoke {label}">Revoke</button></form></article>"""


def _focused(fields: Sequence[Field]) -> str | None:
    """Return the name of the first empty field, or of the last if none is empty."""
    for field in fields:
        if not field.value:
            return field.name
    return fields[-1].name if fields else None


def _field(field: Field, *, has_error: bool, has_focus: bool) -> str:
    described = ' aria-describedby="problem" aria-invalid="true"' if has_error else ""
    focus = " autofocus" if has_focus else ""
    name = escape(field.name)
    return (
        f'<label for="{name}">{escape(field.label)}</label>\n'
        f'<input id="{name}" name="{name}" type="{escape(field.type)}"'
        f' value="{escape(field.value)}" autocomplete="{escape(field.autocomplete)}"'
        f' autocapitalize="none" spellcheck="false" required{described}{focus}>'
    )


def _hidden(values: Mapping[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in values.items()
    )


def _document(page: Page, title: str, body: str, logo: str | None, color: str) -> str:
    image = f'<img src="{escape(logo)}" alt="">' if logo else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style nonce="{escape(page.nonce)}">{style_sheet(color)}</style></head>
<body><header>{image}{escape(page.title)}</header>
<main><section>{body}</section></main></body></html>
"""
