#!/usr/bin/env bash
# The same client secret in the Authorization header is right for one Python OAuth server and wrong for the next.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  django==5.2.19 django-oauth-toolkit==3.4.1 'django-allauth[idp-oidc]==65.22.1' oauthlib==4.0.1 authlib==1.9.10 flask==3.1.3 || exit 2

cd "$dir"
timeout 60 venv/bin/python -W ignore - <<'EOF'
import base64, importlib.metadata, logging, sys
from urllib.parse import quote_plus

import django
from django.conf import settings

logging.disable()
apps = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "allauth", "allauth.account", "allauth.idp.oidc",
        "oauth2_provider"]
settings.configure(
    SECRET_KEY="x" * 50, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"], INSTALLED_APPS=apps,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
                "allauth.account.middleware.AccountMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"context_processors": [
        "django.template.context_processors.request"]}}],
)
django.setup()

from allauth.idp.oidc.models import Client
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from django.core.management import call_command
from django.test import Client as Browser
from django.urls import include, path
from flask import Flask
from oauth2_provider.models import Application

urlpatterns = [path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")), path("", include("allauth.idp.urls"))]
call_command("migrate", verbosity=0)


class AuthlibClient(ClientMixin):
    def __init__(self, secret):
        self.secret = secret

    def get_client_id(self):
        return "client"

    def get_allowed_scope(self, scope):
        return scope or "read"

    def check_client_secret(self, client_secret):
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method, endpoint):
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type):
        return True


def toolkit(secret, header):
    client = Application.objects.create(client_type="confidential", authorization_grant_type="client-credentials", client_secret=secret)
    return ask(Browser(), "/o/token/", header(client.client_id, secret), "read")


def allauth(secret, header):
    client = Client(name="client", grant_types="client_credentials", scopes="read", redirect_uris="https://app.example/callback")
    client.set_secret(secret)
    client.save()
    return ask(Browser(), "/identity/o/api/token", header(client.id, secret), "read")


def authlib(secret, header):
    app, client = Flask("authlib"), AuthlibClient(secret)
    server = AuthorizationServer(app, query_client=lambda client_id: client, save_token=lambda token, request: None)
    server.register_grant(grants.ClientCredentialsGrant)
    app.post("/token")(server.create_token_response)
    form = {"grant_type": "client_credentials", "scope": "read"}
    return app.test_client().post("/token", data=form, headers={"Authorization": header("client", secret)}).status_code


def ask(browser, url, authorization, scope):
    form = {"grant_type": "client_credentials", "scope": scope}
    return browser.post(url, form, headers={"authorization": authorization}).status_code


def basic(client_id, secret):
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def encoded(client_id, secret):
    return basic(quote_plus(client_id), quote_plus(secret))


requests = {"encoded": ("a+b/c=d%e", encoded), "not encoded": ("a+b/c=d%e", basic), "encoded, a space": ("a b", encoded)}
servers = {"django-oauth-toolkit": toolkit, "django-allauth": allauth, "Authlib": authlib}
print("Expected: the header has id and secret form-encoded, as RFC 6749 §2.3.1 and Appendix B say: 200, 401 where it is not encoded, 200")
print("          with `+` for a space. (Both Django servers are built on the same oauthlib.)")
print("Seen:     " + ", ".join(requests))
seen = {}
for name, server in servers.items():
    seen[name] = [server(*request) for request in requests.values()]
    print(f"          {name} {importlib.metadata.version(name)}: {seen[name]}")
as_described = list(seen.values()) == [[200, 401, 200], [401, 200, 401], [200, 200, 401]]
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
