"""The pages as values: sign-in, consent, applications, messages. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input of a sign-in form.

    Attributes:
        name: the name of the form parameter.
        label: the visible label.
        type: the type of the HTML input.
        value: the initial value.
        autocomplete: tells browsers and password managers how to fill it in (WHATWG HTML,
            autofill).
    """

    name: str
    label: str
    type: str = "text"
    value: str = field(default="", repr=False)
    autocomplete: str = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The attributes that all pages have.

    Attributes:
        title: the name of the service.
        nonce: the value of the ``nonce`` attribute that each ``<style>`` element needs.
        action: the URL that the form is sent to.
        hidden: the hidden inputs of the form.
    """

    title: str = ""
    nonce: str = field(default="", repr=False)
    action: str = ""
    hidden: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPage(Page):
    """The sign-in page.

    Attributes:
        fields: the visible inputs of the form.
        button: the label of the submit button.
        error: why the last attempt failed.
        client: the name that the application which requests access has chosen.
    """

    fields: Sequence[Field] = ()
    button: str = "Sign in"
    error: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPage(Page):
    """Asks whether an application may act on behalf of the user.

    The form sends ``action``: ``approve``, ``deny`` or ``switch``.

    Attributes:
        client: the application's name; chosen by the application.
        is_verified: whether the operator registered the application.
        client_host: the host of its metadata document, if it has one.
        redirect_host: where the user is sent next: a host, or a private-use scheme.
        is_on_device: whether that is a program on the user's machine, where any program can claim
            to be this one.
        resource: the resource that it requests access to.
        scopes: the requested scopes with their descriptions.
        account: the user who is signed in; ``None`` if the sign-in comes next.
        provider_host: where users sign in, if not here.
        provider_scopes: the scopes requested there.
        applications_url: the page to revoke this access later, if there is one.
    """

    client: str
    is_verified: bool
    client_host: str | None
    redirect_host: str
    is_on_device: bool
    resource: str
    scopes: Sequence[tuple[str, str]]
    account: str | None
    applications_url: str | None
    provider_host: str | None = None
    provider_scopes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application that the user has approved.

    Attributes:
        client_id: its identifier.
        name: its name; chosen by the application.
        host: where the user was sent after approving it.
        scopes: descriptions of its scopes.
        since: the date of the approval.
    """

    client_id: str
    name: str
    host: str
    scopes: Sequence[str]
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationsPage(Page):
    """The applications that a user has approved. The form that revokes one sends ``client_id``.

    Attributes:
        account: the user who is signed in.
        applications: the approved applications.
        logout_action: the URL that the sign-out form is sent to.
        logout_hidden: the hidden inputs of that form.
    """

    account: str
    applications: Sequence[Application]
    logout_action: str
    logout_hidden: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePage(Page):
    """A message: why something failed, or that it is done.

    Attributes:
        heading: a few words.
        text: the outcome, and the next step for the user.
        link: a URL that the user may follow, with its label.
        button: the label of the button, if the page has a form.
    """

    heading: str
    text: str
    link: tuple[str, str] | None = field(default=None, repr=False)
    button: str | None = None
