#!/usr/bin/env bash
# A JWT of django-allauth loses its audience when a client refreshes without repeating `resource`.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
timeout 300 "$dir/venv/bin/pip" install --quiet --disable-pip-version-check django==5.2.19 'django-allauth[idp-oidc]==65.22.1' requests==2.34.2 || exit 2

cd "$dir"
timeout 60 venv/bin/python -W ignore - <<'EOF'
import base64, importlib.metadata, json, logging, sys
from urllib.parse import parse_qs, urlsplit

import django
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings

logging.disable()
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
settings.configure(
    SECRET_KEY="x" * 50, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "allauth", "allauth.account", "allauth.idp.oidc"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
                "allauth.account.middleware.AccountMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {"context_processors": [
        "django.template.context_processors.request"]}}],
    IDP_OIDC_PRIVATE_KEY=pem, IDP_OIDC_ACCESS_TOKEN_FORMAT="jwt",
)
django.setup()

from allauth.idp.oidc.models import Client
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client as Browser
from django.urls import include, path

urlpatterns = [path("accounts/", include("allauth.account.urls")), path("", include("allauth.idp.urls"))]
call_command("migrate", verbosity=0)
CALLBACK, RESOURCE = "https://app.example/callback", "https://mcp.example/mcp"
client = Client(name="client", redirect_uris=CALLBACK, grant_types="authorization_code\nrefresh_token", type="public", skip_consent=True)
client.save()
browser = Browser()
browser.force_login(User.objects.create_user("alice"))
asked = {
    "response_type": "code", "client_id": client.id, "redirect_uri": CALLBACK, "scope": "openid", "state": "state", "resource": RESOURCE,
    "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256",
}
back = browser.get("/identity/o/authorize", asked)["location"]
verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, Appendix B


def tokens(**form):
    return Browser().post("/identity/o/api/token", {"client_id": client.id, **form}).json()


def audience(answer):
    payload = answer["access_token"].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("aud")


code = parse_qs(urlsplit(back).query)["code"][0]
first = tokens(grant_type="authorization_code", code=code, redirect_uri=CALLBACK, code_verifier=verifier, resource=RESOURCE)
second = tokens(grant_type="refresh_token", refresh_token=first["refresh_token"])
third = tokens(grant_type="refresh_token", refresh_token=second["refresh_token"], resource=RESOURCE)
print("Expected: the grant is for one resource, so a token from a refresh is for it, too (RFC 8707 §2.2), and has an audience (RFC 9068 §2.2).")
print(f"Seen:     django-allauth {importlib.metadata.version('django-allauth')}")
print(f"          aud of the first token:                 {audience(first)}")
print(f"          aud after a refresh without `resource`: {audience(second)}")
print(f"          aud after a refresh with `resource`:    {audience(third)}")
as_described = (audience(first), audience(second), audience(third)) == ([RESOURCE], None, [RESOURCE])
print("As described." if as_described else "CHANGED.")
sys.exit(not as_described)
EOF
