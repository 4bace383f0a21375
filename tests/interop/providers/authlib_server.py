"""An authorization server made with Authlib, as its documentation shows: JWT access tokens (RFC
9068), refresh tokens that rotate, ID tokens.

    python authlib_server.py REDIRECT_URI SECRET RESOURCE

It prints a line of JSON: what the proxy has to know, and where a GET ends all sign-ins (``end``).
It stops when its stdin is closed. There is one person, who is signed in and agrees.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from authlib.common.security import generate_token
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, TokenMixin, grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode, OpenIDToken
from flask import Flask, Response, jsonify
from joserfc.jwk import KeySet, RSAKey
from serving import listen, serve

REDIRECT_URI, SECRET, RESOURCE = sys.argv[1:]
SECONDS = 100  # of access tokens: ID tokens live for an hour, access tokens for ten days
KEY = RSAKey.generate_key(2048, auto_kid=True)


@dataclass
class Person:
    id: str

    def get_user_id(self) -> str:
        return self.id


ALICE = Person("alice")


class Client(ClientMixin):
    client_id = "the-proxy"
    client_secret = SECRET

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == REDIRECT_URI

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in {"authorization_code", "refresh_token"}


CLIENT = Client()


@dataclass
class Code(AuthorizationCodeMixin):
    code: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int:
        return int(time.time())

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


@dataclass
class Token(TokenMixin):
    scope: str

    def check_client(self, client: ClientMixin) -> bool:
        return client is CLIENT

    def get_scope(self) -> str:
        return self.scope

    def is_expired(self) -> bool:
        return False

    def is_revoked(self) -> bool:
        return False

    def get_user(self) -> Person:
        return ALICE

    def get_client(self) -> Client:
        return CLIENT


codes: dict[str, Code] = {}
refresh_tokens: dict[str, Token] = {}


class AuthorizationCodeGrant(grants.AuthorizationCodeGrant):
    def save_authorization_code(self, code: str, request: Any) -> None:
        payload = request.payload
        codes[code] = Code(
            code,
            payload.redirect_uri,
            payload.scope,
            payload.data.get("nonce"),
            payload.data.get("code_challenge"),
            payload.data.get("code_challenge_method"),
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        return codes.get(code)

    def delete_authorization_code(self, authorization_code: Code) -> None:
        del codes[authorization_code.code]

    def authenticate_user(self, authorization_code: Code) -> Person:
        return ALICE


class RefreshTokenGrant(grants.RefreshTokenGrant):
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        return refresh_tokens.get(refresh_token)

    def authenticate_user(self, refresh_token: Token) -> Person:
        return ALICE

    def revoke_old_credential(self, refresh_token: Token) -> None:
        for value in [value for value, token in refresh_tokens.items() if token is refresh_token]:
            del refresh_tokens[value]


class IdTokens:
    def resolve_client_private_key(self, client: Client) -> RSAKey:
        return KEY  # the key alone, not in a set: ID tokens have no kid then

    def get_client_claims(self, client: Client) -> dict[str, str]:
        return {"iss": issuer}

    def exists_nonce(self, nonce: str, request: Any) -> bool:
        return False

    def generate_user_info(self, user: Person, scope: str) -> UserInfo:
        return UserInfo(sub=user.id)


class WithCode(IdTokens, OpenIDCode):
    pass


class WithRefresh(IdTokens, OpenIDToken):
    pass


class AccessTokens(JWTBearerTokenGenerator):
    def get_jwks(self) -> Any:
        return KeySet([KEY])

    def get_audiences(self, client: Client, user: Person, scope: str) -> list[str]:
        return [RESOURCE]


def save_token(token: dict[str, Any], request: Any) -> None:
    refresh_tokens[token["refresh_token"]] = Token(token["scope"])


app = Flask(__name__)
server = AuthorizationServer(
    app, query_client={CLIENT.client_id: CLIENT}.get, save_token=save_token
)
server.register_grant(AuthorizationCodeGrant, [CodeChallenge(required=True), WithCode()])
server.register_grant(RefreshTokenGrant, [WithRefresh()])


@app.get("/authorize")
def authorize() -> Any:
    grant = server.get_consent_grant(end_user=ALICE)
    return server.create_authorization_response(grant_user=ALICE, grant=grant)


@app.post("/token")
def issue() -> Any:
    return server.create_token_response()


@app.get("/jwks")
def key_set() -> Response:
    return jsonify({"keys": [KEY.as_dict(private=False)]})


@app.get("/.well-known/openid-configuration")
def metadata() -> Response:
    return jsonify(
        {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    )


@app.get("/end")
def end() -> str:
    refresh_tokens.clear()
    return ""


httpd, issuer = listen(app)
tokens = AccessTokens(
    issuer,
    refresh_token_generator=lambda **_: generate_token(48),
    expires_generator=SECONDS,
)
server.register_token_generator("default", tokens)
known = {"issuer": issuer, "client_id": CLIENT.client_id, "client_secret": SECRET}
serve(httpd, {"end": f"{issuer}/end", "Authlib": known})
