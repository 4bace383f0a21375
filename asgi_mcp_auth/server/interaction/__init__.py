"""A user's way through the pages, from the authorization request to its response."""
