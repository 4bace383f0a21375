"""Clients: registration, metadata documents, keys and authentication."""
