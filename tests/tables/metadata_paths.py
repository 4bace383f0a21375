"""Where metadata lies: the well-known name stands between host and path (RFC 8414 §3.1; RFC 9728
§3.1), or behind the path (OpenID Connect Discovery §4.1).
"""

from __future__ import annotations

RESOURCE = "/.well-known/oauth-protected-resource"
SERVER = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"

# base_url and mcp_path, and the host and path of the resource. Its identifier is the two together;
# its document lies at RESOURCE and the path.
RESOURCES = [
    ("https://h.example", None, "https://h.example", ""),
    ("https://h.example/", None, "https://h.example", ""),
    ("https://h.example", "/", "https://h.example", ""),
    ("https://h.example/", "/", "https://h.example", ""),
    ("https://h.example", "/mcp", "https://h.example", "/mcp"),
    ("https://h.example/", "/mcp", "https://h.example", "/mcp"),
    ("https://h.example", "/mcp/", "https://h.example", "/mcp/"),
    ("https://h.example", "/a/mcp", "https://h.example", "/a/mcp"),
    ("https://h.example/a", "/mcp", "https://h.example", "/a/mcp"),
    ("https://h.example/a/", "/mcp", "https://h.example", "/a/mcp"),
    ("https://h.example:8443", "/mcp", "https://h.example:8443", "/mcp"),
    ("https://H.example:443", "/mcp", "https://H.example:443", "/mcp"),
    ("http://localhost:8000", "/mcp", "http://localhost:8000", "/mcp"),
]

# the path of an issuer, and where on its host the metadata is, in the order to look
ISSUERS = [
    ("", [SERVER, OPENID]),
    ("/", [SERVER, OPENID]),
    ("/t1", [f"{SERVER}/t1", f"{OPENID}/t1", f"/t1{OPENID}"]),
    ("/t1/", [f"{SERVER}/t1", f"{OPENID}/t1", f"/t1{OPENID}"]),
    ("/a/B", [f"{SERVER}/a/B", f"{OPENID}/a/B", f"/a/B{OPENID}"]),
]
