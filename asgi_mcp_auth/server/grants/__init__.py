"""Grants: what a person, or a client for itself, lets a client do."""
