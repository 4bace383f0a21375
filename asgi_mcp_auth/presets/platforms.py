"""Identity providers that run somewhere else, with an account of yours."""

from __future__ import annotations

from .model import OIDC, Audience, Introspected, JWTs, Parameter, Preset, Registration

_OFFLINE = ("openid", "profile", "email", "offline_access")
_SAME = "aud is the identifier of the API that you register; the resource URL can be that"

PRESETS: dict[str, Preset] = {
    "auth0": Preset(
        title="Auth0",
        source="https://auth0.com/ai/docs/mcp",
        checked="documentation",
        parameters={
            "domain": Parameter(
                "host", "your tenant's domain, or your custom one", "example.eu.auth0.com"
            )
        },
        tokens=JWTs(issuers=("https://{domain}/",), audience=Audience("resource", _SAME)),
        registration=Registration(
            "Dynamic Client Registration, once it is switched on", "https://{domain}/"
        ),
        login=OIDC(issuers=("https://{domain}/",), scopes=_OFFLINE),
        steps=(
            (
                "Applications > APIs: create an API whose identifier is the resource URL, and add"
                " its scopes."
            ),
            (
                "Settings > Advanced: switch on Resource Parameter Compatibility Profile and"
                " Dynamic Client Registration."
            ),
            (
                "Under the API's default permissions for third-party applications, allow user"
                " access with these scopes."
            ),
            "Promote the connections that people sign in with to the domain level.",
            "For a proxy: Applications > Create, a Regular Web Application with the callback URL.",
        ),
    ),
    "clerk": Preset(
        title="Clerk",
        source="https://clerk.com/docs/guides/configure/auth-strategies/oauth/how-clerk-implements-oauth",
        checked="documentation",
        unchecked="that aud is left out, the claim client_id",
        parameters={
            "domain": Parameter(
                "host", "the host of your Frontend API URL", "verb-noun-00.clerk.accounts.dev"
            )
        },
        tokens=JWTs(
            issuers=("https://{domain}",),
            audience=Audience(
                "none", "nothing in a token says which of your servers it was made for"
            ),
            client_id_claim="client_id",
        ),
        registration=Registration(
            "Client ID Metadata Documents or Dynamic Client Registration, switched on",
            "https://{domain}",
        ),
        login=OIDC(issuers=("https://{domain}",), scopes=_OFFLINE),
        steps=(
            (
                "OAuth applications > CIMD Clients: advertise CIMD, or switch on Dynamic client"
                " registration."
            ),
            "OAuth applications > Settings: leave Generate access tokens as JWTs on.",
            "For a proxy: OAuth applications > Add, with the callback URL.",
        ),
    ),
    "cognito": Preset(
        title="AWS Cognito",
        source="https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-user-pools-define-resource-servers.html",
        checked="documentation",
        unchecked=(
            "the issuer's form, that aud is left out otherwise, that ID tokens have no client_id"
        ),
        parameters={
            "region": Parameter("label", "the AWS region of the user pool", "eu-central-1"),
            "user_pool_id": Parameter(
                "segment", "the id of the user pool", "eu-central-1_AbCdEfGhI"
            ),
        },
        tokens=JWTs(
            issuers=("https://cognito-idp.{region}.amazonaws.com/{user_pool_id}",),
            audience=Audience(
                "none",
                "aud is left out unless the pool has the Essentials or Plus plan and the client"
                " asks for a resource",
            ),
            client_id_claim="client_id",
        ),
        login=OIDC(issuers=("https://cognito-idp.{region}.amazonaws.com/{user_pool_id}",)),
        steps=(
            "User pools > your pool > Domain: give the pool a domain for its sign-in pages.",
            (
                "App clients: create a confidential client with the authorization code grant and"
                " the callback URL."
            ),
            "Resource servers: add one for your own scopes, if a verifier shall check those.",
        ),
    ),
    "descope": Preset(
        title="Descope",
        source="https://docs.descope.com/agentic-identity-hub/mcp-servers",
        checked="documentation",
        parameters={
            "project_id": Parameter("segment", "the id of your project", "P2abcDEF0123456789"),
            "mcp_server_id": Parameter(
                "segment", "the id of the MCP server in the Agentic Identity Hub", "MS2abcDEF0123"
            ),
            "api": Parameter(
                "url", "the API's URL", "https://api.example.com", "https://api.descope.com"
            ),
        },
        tokens=JWTs(
            issuers=("{api}/v1/apps/agentic/{project_id}/{mcp_server_id}",),
            jwks_uri="{api}/{project_id}/.well-known/jwks.json",
            audience=Audience("resource", "aud is the MCP Server URL that you set in the console"),
        ),
        registration=Registration(
            "Dynamic Client Registration (on by default) or Client ID Metadata Documents",
            "{api}/v1/apps/agentic/{project_id}/{mcp_server_id}",
        ),
        login=OIDC(
            issuers=("{api}/v1/apps/agentic/{project_id}/{mcp_server_id}",), scopes=_OFFLINE
        ),
        steps=(
            (
                "Agentic Identity Hub > MCP Servers: add a server, set its URL to the resource URL,"
                " and add its scopes."
            ),
            "For a proxy: register a client with the callback URL under Clients.",
        ),
    ),
    "entra": Preset(
        title="Microsoft Entra ID",
        source="https://learn.microsoft.com/entra/identity-platform/access-tokens",
        checked="documentation",
        unchecked="the address of the keys of version 1.0, that clients cannot register",
        parameters={
            "tenant": Parameter(
                "uuid",
                "the id of the tenant, or a list",
                "72f988bf-86f1-41af-91ab-2d7cd011db47",
                several=True,
            ),
            "api": Parameter(
                "uuid",
                "the application (client) id of the app registration that stands for your server",
                "11111111-2222-4333-8444-555555555555",
                required=False,
            ),
            "version": Parameter(
                "choice", "of the access tokens", "2.0", "2.0", choices=("1.0", "2.0")
            ),
        },
        tokens=JWTs(
            issuers=("https://login.microsoftonline.com/{tenant}/v2.0",),
            audience=Audience(
                "named",
                "aud is the client id of the API; in version 1.0, or its api:// URI",
                "{api}",
            ),
        ),
        login=OIDC(
            issuers=("https://login.microsoftonline.com/{tenant}/v2.0",),
            scopes=_OFFLINE,
            client_auth_method="client_secret_post",
        ),
        steps=(
            "App registrations > New registration: a Web platform with the callback URL.",
            "Certificates & secrets: add a client secret.",
            (
                "For tokens of your own API: Expose an API, keep the URI api://<client id>, and add"
                " the scopes."
            ),
            (
                "Manifest: set requestedAccessTokenVersion to 2; without it the tokens are of"
                " version 1.0."
            ),
        ),
    ),
    "kinde": Preset(
        title="Kinde",
        source="https://docs.kinde.com/developer-tools/your-apis/register-manage-apis/",
        checked="documentation",
        unchecked="that clients cannot register",
        parameters={
            "domain": Parameter(
                "host", "your Kinde domain, or your custom one", "example.kinde.com"
            )
        },
        tokens=JWTs(issuers=("https://{domain}",), audience=Audience("resource", _SAME)),
        login=OIDC(issuers=("https://{domain}",), scopes=("openid", "profile", "email", "offline")),
        steps=(
            "Applications > Add: a back-end web application with the callback URL.",
            (
                "For tokens of your own API: APIs > Add, the audience is the resource URL; clients"
                " must ask for it."
            ),
        ),
    ),
    "oci": Preset(
        title="OCI IAM",
        source="https://docs.oracle.com/iaas/Content/Identity/api-getstarted/AccessToken.htm",
        checked="documentation",
        unchecked="the claim client_id, that clients cannot register",
        parameters={
            "domain": Parameter(
                "host", "the host of your domain URL", "idcs-0123abcd.identity.oraclecloud.com"
            )
        },
        tokens=JWTs(
            # The documentation has all of them. The keys are the domain's own, so nobody else can
            # use these names.
            issuers=(
                "https://identity.oraclecloud.com/",
                "https://identity.oraclecloud.com",
                "https://{domain}",
            ),
            jwks_uri="https://{domain}/admin/v1/SigningCert/jwk",
            audience=Audience(
                "named",
                "aud is the primary audience of the application that is the resource server",
            ),
        ),
        login=OIDC(
            issuers=(
                "https://identity.oraclecloud.com/",
                "https://identity.oraclecloud.com",
                "https://{domain}",
            ),
            config_url="https://{domain}/.well-known/openid-configuration",
            scopes=_OFFLINE,
        ),
        steps=(
            (
                "Identity domain > Settings: switch Configure client access on, so that keys can be"
                " fetched."
            ),
            (
                "Integrated applications > Add: confidential, authorization code grant, the"
                " callback URL."
            ),
            (
                "For tokens of your own API: an application as resource server, with primary"
                " audience and scopes."
            ),
        ),
    ),
    "okta": Preset(
        title="Okta",
        source="https://developer.okta.com/docs/guides/customize-authz-server/main/",
        checked="documentation",
        unchecked="the claims cid and scp, that registration needs a token of an administrator",
        parameters={
            "domain": Parameter("host", "your Okta domain, or your custom one", "example.okta.com"),
            "authorization_server": Parameter(
                "segment", "the id of the custom authorization server", "aus1a2b", "default"
            ),
        },
        tokens=JWTs(
            issuers=("https://{domain}/oauth2/{authorization_server}",),
            audience=Audience(
                "resource",
                "aud is the Audience of the authorization server, which can be the resource URL",
            ),
        ),
        login=OIDC(issuers=("https://{domain}/oauth2/{authorization_server}",), scopes=_OFFLINE),
        steps=(
            (
                "Applications > Create App Integration: OIDC, Web Application, with the callback"
                " URL and refresh tokens."
            ),
            (
                "Security > API > your authorization server: allow the application in an access"
                " policy."
            ),
            (
                "For tokens of your own API: set the server's Audience to the resource URL, and add"
                " the scopes."
            ),
        ),
    ),
    "onelogin": Preset(
        title="OneLogin",
        source="https://developers.onelogin.com/openid-connect/api/provider-config",
        checked="documentation",
        unchecked="that clients cannot register",
        parameters={
            "subdomain": Parameter("label", "the first part of your OneLogin host", "example")
        },
        tokens=JWTs(
            issuers=("https://{subdomain}.onelogin.com/oidc/2",),
            audience=Audience(
                "resource", "aud is what API Authorization says, which can be the resource URL"
            ),
        ),
        login=OIDC(issuers=("https://{subdomain}.onelogin.com/oidc/2",)),
        steps=(
            (
                "Applications > Add App > OpenId Connect (OIDC): Web, with the callback URL; token"
                " endpoint POST or Basic."
            ),
            (
                "For tokens of your own API: Developers > API Authorization, the audience is the"
                " resource URL."
            ),
        ),
    ),
    "pingone": Preset(
        title="PingOne",
        source="https://developer.pingidentity.com/pingone-api/platform/resources/resources-1.html",
        checked="documentation",
        unchecked="the issuer's form, that clients cannot register",
        parameters={
            "environment_id": Parameter(
                "uuid", "the id of the environment", "11111111-2222-4333-8444-555555555555"
            ),
            "host": Parameter(
                "host", "the host of your region", "auth.pingone.eu", "auth.pingone.com"
            ),
        },
        tokens=JWTs(
            issuers=("https://{host}/{environment_id}/as",),
            audience=Audience(
                "resource",
                "aud is the audience of a custom resource, which can be the resource URL",
            ),
        ),
        login=OIDC(issuers=("https://{host}/{environment_id}/as",)),
        steps=(
            "Applications > Add: OIDC Web App with the callback URL and the refresh token grant.",
            (
                "For tokens of your own API: Applications > Resources > Add, the audience is the"
                " resource URL; add scopes."
            ),
        ),
    ),
    "propelauth": Preset(
        title="PropelAuth",
        source="https://docs.propelauth.com/reference/api/mcp",
        checked="documentation",
        unchecked=(
            "the issuer, the introspection endpoint and its credentials, that aud is the resource"
        ),
        parameters={"server": Parameter("url", "your Auth URL", "https://auth.example.com")},
        tokens=Introspected(
            issuer="{server}/oauth/2.1",
            introspection_url="{server}/oauth/2.1/introspect",
            audience=Audience("resource", "aud is the resource that the client asked for"),
        ),
        registration=Registration("Dynamic Client Registration", "{server}/oauth/2.1"),
        login=None,
        steps=(
            "MCP: switch it on, add the scopes, and allow clients to register.",
            "Request validation: create credentials; they are client_id and client_secret here.",
        ),
    ),
    "scalekit": Preset(
        title="Scalekit",
        source="https://docs.scalekit.com/authenticate/mcp/quickstart/",
        checked="documentation",
        parameters={
            "domain": Parameter("host", "the host of your environment URL", "example.scalekit.com"),
            "resource_id": Parameter(
                "segment", "the id of the MCP server in the dashboard", "res_0123456789"
            ),
        },
        tokens=JWTs(
            issuers=("https://{domain}",),
            audience=Audience("resource", "aud has the Server URL that you set in the dashboard"),
        ),
        registration=Registration(
            "Dynamic Client Registration or Client ID Metadata Documents",
            "https://{domain}/resources/{resource_id}",
        ),
        login=None,
        steps=(
            "MCP servers > Add: set the Server URL to the resource URL, and add the scopes.",
            "Switch dynamic client registration and CIMD on.",
        ),
    ),
    "stytch": Preset(
        title="Stytch",
        source="https://stytch.com/docs/connected-apps/guides/mcp-auth-overview",
        checked="documentation",
        parameters={
            "domain": Parameter(
                "host", "the project's domain", "noun-verb-1234.customers.stytch.dev"
            ),
            "project_id": Parameter(
                "segment", "the id of the project", "project-test-11111111-2222-4333-8444-5555"
            ),
        },
        tokens=JWTs(
            issuers=("https://{domain}",),
            audience=Audience(
                "shared",
                "aud is the project, whichever connected app it was made for",
                "{project_id}",
            ),
            client_id_claim="client_id",
        ),
        registration=Registration(
            "Dynamic Client Registration, once it is switched on", "https://{domain}"
        ),
        login=OIDC(issuers=("https://{domain}",), scopes=_OFFLINE),
        steps=(
            "Connected Apps: switch on dynamic client registration, and set the authorization URL.",
            "Host the page with Stytch's IdentityProvider component there; people consent on it.",
        ),
    ),
    "supabase": Preset(
        title="Supabase",
        source="https://supabase.com/docs/guides/auth/oauth-server/mcp-authentication",
        checked="documentation",
        unchecked="that keys have to be asymmetric",
        parameters={
            "project": Parameter("label", "the reference id of the project", "abcdefghijklmnopqrst")
        },
        tokens=JWTs(
            issuers=("https://{project}.supabase.co/auth/v1",),
            audience=Audience(
                "none",
                "aud is always 'authenticated', unless a Custom Access Token Hook puts your"
                " server's name there",
            ),
            client_id_claim="client_id",  # a token of an ordinary sign-in has none
        ),
        registration=Registration(
            "Dynamic Client Registration, once it is switched on",
            "https://{project}.supabase.co/auth/v1",
        ),
        login=OIDC(issuers=("https://{project}.supabase.co/auth/v1",)),
        steps=(
            (
                "Authentication > OAuth Server: switch it on, name your authorization page, allow"
                " dynamic registration."
            ),
            "Project settings > JWT keys: use an asymmetric signing key.",
        ),
    ),
    "workos": Preset(
        title="WorkOS AuthKit",
        source="https://workos.com/docs/user-management/mcp",
        checked="documentation",
        unchecked="the address of the keys, that aud is the resource indicator",
        parameters={"domain": Parameter("host", "your AuthKit domain", "example.authkit.app")},
        tokens=JWTs(
            issuers=("https://{domain}",),
            jwks_uri="https://{domain}/oauth2/jwks",
            audience=Audience(
                "resource", "aud is the resource indicator that you allow in the dashboard"
            ),
        ),
        registration=Registration(
            "Client ID Metadata Documents or Dynamic Client Registration, switched on",
            "https://{domain}",
        ),
        login=OIDC(issuers=("https://{domain}",), scopes=_OFFLINE),
        steps=(
            (
                "Connect > Configuration: switch client registration on, and add the resource URL"
                " as a resource indicator."
            ),
            (
                "For a proxy: Connect > Applications > Create an OAuth application with the"
                " callback URL."
            ),
        ),
    ),
}
