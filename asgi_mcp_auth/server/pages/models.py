"""What the pages say, as values: sign in, consent, applications, errors. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input of a sign-in form.

    Attributes:
        name: of the parameter.
        label: for people.
        type: of the HTML input.
        value: what stands there at first.
        autocomplete: what browsers and password managers fill in (WHATWG HTML, autofill).
    """

    name: str
    label: str
    type: str = "text"
    value: str = field(default="", repr=False)
    autocomplete: str = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What every page has.

    Attributes:
        title: of the service.
        nonce: what a ``<style>`` element needs to carry.
        action: where the form goes.
        hidden: what it carries besides.
    """

    title: str = ""
    nonce: str = field(default="", repr=False)
    action: str = ""
    hidden: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPage(Page):
    """Sign in.

    Attributes:
        fields: to fill in.
        button: the label of the button.
        error: what went wrong the last time.
        client: the name of the application that asks, as it says.
    """

    fields: Sequence[Field] = ()
    button: str = "Sign in"
    error: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPage(Page):
    """Allow an application to act for somebody. The form sends ``action``: ``approve``, ``deny`` or
    ``switch``.

    Attributes:
        client: the application's name, as it says.
        is_verified: whether the operator knows the application.
        client_host: where its metadata document lies, if it has one.
        redirect_host: where the person is sent afterwards: a host, or a private-use scheme.
        is_on_device: whether that is a program on their own machine, where each can pretend to be
            any other.
        resource: what it wants access to.
        scopes: what it wants to do: each scope and its description.
        account: who is signed in; ``None`` when that comes next.
        provider_host: where they sign in, if not here.
        provider_scopes: what is asked for there.
        applications_url: where this can be taken back, if there is such a page.
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
    """An application that somebody has allowed.

    Attributes:
        client_id: its identifier.
        name: as it says.
        host: where the person was sent when they allowed it.
        scopes: what it may do, in words.
        since: the date.
    """

    client_id: str
    name: str
    host: str
    scopes: Sequence[str]
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationsPage(Page):
    """The applications that somebody has allowed; the form sends ``client_id``.

    Attributes:
        account: who is signed in.
        applications: theirs.
        logout_action: where the form goes that signs out; it carries ``logout_hidden``.
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
        text: what happened and what to do now.
        link: a URL that the user may follow, with its label.
    """

    heading: str
    text: str
    link: tuple[str, str] | None = field(default=None, repr=False)
