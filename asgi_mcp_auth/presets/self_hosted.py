"""Identity providers that you can run yourself."""

from __future__ import annotations

from .model import OIDC, Audience, Introspected, JWTs, Parameter, Preset, Registration

_OFFLINE = ("openid", "profile", "email", "offline_access")
_SAME = "aud is the identifier of the API that you register; the resource URL can be that"

PRESETS: dict[str, Preset] = {
    "authentik": Preset(
        title="Authentik",
        source="https://docs.goauthentik.io/add-secure-apps/providers/oauth2/",
        checked="documentation",
        unchecked="the slash at the end of the issuer, that aud is the client id",
        parameters={
            "server": Parameter(
                "url", "the URL of your Authentik", "https://authentik.example.com"
            ),
            "application": Parameter("segment", "the slug of the application", "mcp"),
        },
        tokens=JWTs(
            issuers=("{server}/application/o/{application}/",),
            audience=Audience("named", "aud is the client id of the OAuth2 provider"),
        ),
        login=OIDC(issuers=("{server}/application/o/{application}/",), scopes=_OFFLINE),
        steps=(
            (
                "Applications > Create with provider: an OAuth2/OpenID provider, confidential, with"
                " the callback URL."
            ),
            (
                "Select a signing key (without one the tokens are signed with the client secret),"
                " and no encryption key."
            ),
            "Under advanced settings, add the scope mapping offline_access.",
        ),
    ),
    "keycloak": Preset(
        title="Keycloak",
        source="https://www.keycloak.org/securing-apps/mcp-authz-server",
        checked="documentation",
        unchecked="the issuer's form",
        parameters={
            "server": Parameter("url", "the URL of your Keycloak", "https://sso.example.com"),
            "realm": Parameter("segment", "the realm", "staff"),
        },
        tokens=JWTs(
            issuers=("{server}/realms/{realm}",),
            audience=Audience(
                "resource", "aud is what an audience mapper of the client scopes says"
            ),
        ),
        registration=Registration(
            "Dynamic Client Registration, within the realm's policies", "{server}/realms/{realm}"
        ),
        login=OIDC(issuers=("{server}/realms/{realm}",), scopes=_OFFLINE),
        steps=(
            (
                "Client scopes: one for each scope, with an Audience mapper whose custom audience"
                " is the resource URL."
            ),
            (
                "Clients > Client registration: anonymous access policies have to allow these"
                " scopes and hosts."
            ),
            "For a proxy: Clients > Create, with client authentication and the callback URL.",
        ),
    ),
    "logto": Preset(
        title="Logto",
        source="https://docs.logto.io/authorization/validate-access-tokens",
        checked="documentation",
        unchecked="that clients cannot register, that refresh tokens need prompt=consent",
        parameters={
            "server": Parameter("url", "your tenant's endpoint", "https://example.logto.app")
        },
        tokens=JWTs(issuers=("{server}/oidc",), audience=Audience("resource", _SAME)),
        login=OIDC(
            issuers=("{server}/oidc",),
            scopes=_OFFLINE,
            authorize_parameters={"prompt": "consent"},
            anew_prompt="login consent",
        ),
        steps=(
            "Applications > Create: Traditional web, with the callback URL.",
            (
                "For tokens of your own API: API resources > Create, the indicator is the resource"
                " URL."
            ),
        ),
    ),
    "ory": Preset(
        title="Ory",
        source="https://www.ory.com/docs/oauth2-oidc/jwt-access-token",
        checked="documentation",
        unchecked="the claim client_id",
        parameters={
            "issuer": Parameter(
                "issuer",
                "the issuer as its metadata spells it",
                "https://slug.projects.oryapis.com",
            )
        },
        tokens=JWTs(
            issuers=("{issuer}",),
            audience=Audience(
                "none",
                "aud holds what a client may ask for and asks for with audience=, which MCP clients"
                " do not send",
            ),
            client_id_claim="client_id",
        ),
        registration=Registration(
            "Dynamic Client Registration, once it is switched on", "{issuer}"
        ),
        login=OIDC(issuers=("{issuer}",), scopes=_OFFLINE),
        steps=(
            (
                "OAuth2 > Clients > Create: a server-side client with the callback URL and the"
                " scope offline_access."
            ),
            "For a verifier: set /strategies/access_token to jwt; the tokens are opaque otherwise.",
            "For clients that register: set /oidc/dynamic_client_registration/enabled to true.",
        ),
    ),
    "zitadel": Preset(
        title="ZITADEL",
        source="https://zitadel.com/docs/apis/openidoauth/claims",
        checked="documentation",
        unchecked="the introspection endpoint, that clients cannot register",
        parameters={
            "server": Parameter("url", "the URL of your instance", "https://example.zitadel.cloud"),
            "project_id": Parameter("segment", "the id of the project", "69234237810729019"),
        },
        tokens=Introspected(  # a JWT of ZITADEL would not name its scopes
            issuer="{server}",
            introspection_url="{server}/oauth/v2/introspect",
            audience=Audience(
                "shared",
                "aud is the id of the project, whichever of its applications it was made for",
                "{project_id}",
            ),
        ),
        login=OIDC(issuers=("{server}",), scopes=_OFFLINE),
        steps=(
            "Project > Applications > New: Web, Code, with the callback URL and refresh tokens.",
            (
                "For a verifier: New > API, Basic; its id and secret are client_id and"
                " client_secret here."
            ),
        ),
    ),
}
