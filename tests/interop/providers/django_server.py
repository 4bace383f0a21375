"""django-oauth-toolkit, django-oidc-provider and allauth in one Django project, with their default
settings.

    python django_server.py REDIRECT_URI SECRET RESOURCE

It prints a line of JSON: what the proxy has to know of each, and where a GET ends all sign-ins
(``end``). It stops when its stdin is closed. All sign people in at allauth's page: Alice, with a
password.
"""

from __future__ import annotations

import sys

import django
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from serving import listen, serve

REDIRECT_URI, SECRET, RESOURCE = sys.argv[1:]
PASSWORD = "correct horse battery staple"
SECONDS = (
    100  # of access tokens that would outlive their ID tokens: allauth's, django-oidc-provider's
)
KEY = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
)
APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "allauth",
    "allauth.account",
    "allauth.idp.oidc",
    "oauth2_provider",
    "oidc_provider",
]

settings.configure(
    SECRET_KEY="the secret that Django signs with",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=APPS,
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "allauth.account.middleware.AccountMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MIGRATION_MODULES={each.rpartition(".")[2]: None for each in APPS} | {"allauth_idp_oidc": None},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # fast
    LOGIN_URL="/accounts/login/",
    IDP_OIDC_PRIVATE_KEY=KEY,
    IDP_OIDC_ACCESS_TOKEN_EXPIRES_IN=SECONDS,
    IDP_OIDC_INTROSPECTION_ENABLED=True,
    OIDC_TOKEN_EXPIRE=SECONDS,
    OAUTH2_PROVIDER={
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": KEY,
        "SCOPES": {"openid": "OpenID", "read": "Read"},
    },
)
django.setup()

from allauth.account.models import EmailAddress  # noqa: E402
from allauth.idp.oidc.models import Client  # noqa: E402
from allauth.idp.oidc.models import Token as AllauthToken  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from oauth2_provider.models import Application, RefreshToken  # noqa: E402
from oidc_provider.models import Client as OidcClient  # noqa: E402
from oidc_provider.models import ResponseType, RSAKey  # noqa: E402
from oidc_provider.models import Token as OidcToken  # noqa: E402


def end(request: HttpRequest) -> HttpResponse:
    """End all sign-ins."""
    AllauthToken.objects.filter(type=AllauthToken.Type.REFRESH_TOKEN).delete()
    RefreshToken.objects.all().delete()
    OidcToken.objects.all().delete()
    return HttpResponse()


urlpatterns = [
    path("end", end),
    path("accounts/", include("allauth.account.urls")),
    path("", include("allauth.idp.urls")),
    path("oidc/", include("oidc_provider.urls", namespace="oidc_provider")),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
]


call_command("migrate", run_syncdb=True, verbosity=0)
alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
EmailAddress.objects.create(user=alice, email=alice.email, verified=True, primary=True)
client = Client(name="The MCP server", redirect_uris=REDIRECT_URI)
client.set_grant_types(["authorization_code", "refresh_token"])
client.set_secret(SECRET)
client.save()
application = Application.objects.create(
    name="The MCP server",
    redirect_uris=REDIRECT_URI,
    client_type=Application.CLIENT_CONFIDENTIAL,
    authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
    client_secret=SECRET,
    algorithm=Application.RS256_ALGORITHM,
)
RSAKey.objects.create(key=KEY)
oidc_client = OidcClient.objects.create(
    name="The MCP server",
    client_id="the-proxy",
    client_secret=SECRET,
    jwt_alg="RS256",
    client_type="confidential",
)
oidc_client.redirect_uris = [REDIRECT_URI]
oidc_client.save()
oidc_client.response_types.add(ResponseType.objects.get_or_create(value="code")[0])
httpd, origin = listen(WSGIHandler())
known = {
    "end": f"{origin}/end",
    "django-oidc-provider": {
        "issuer": f"{origin}/oidc",
        "client_id": oidc_client.client_id,
        "client_secret": SECRET,
    },
    "allauth": {"issuer": origin, "client_id": client.id, "client_secret": SECRET},
    "django-oauth-toolkit": {
        "issuer": f"{origin}/o",
        "client_id": application.client_id,
        "client_secret": SECRET,
    },
}
serve(httpd, known)
