"""Tokens of this server: signing keys, access tokens and refresh tokens."""
