"""Tokens of this server: signing keys, access tokens, refresh tokens."""
