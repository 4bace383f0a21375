"""Values of the Authorization header, and queries beside it (RFC 6750 §2; RFC 9110 §11)."""

from __future__ import annotations

import string

VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "\"',")

# the value, and the token in it
TOKENS = [
    (b"Bearer mF_9.B5f-4.1JqM", "mF_9.B5f-4.1JqM"),
    (b"bearer a", "a"),
    (b"BEARER a", "a"),
    (b"bEaReR a", "a"),
    (b"Bearer  a", "a"),
    (b"Bearer    abc==", "abc=="),
    (b"Bearer a=", "a="),
    (b"Bearer a====", "a===="),
    (b"Bearer =", "="),
    (b"Bearer =a", "=a"),
    (b"Bearer a=b", "a=b"),
    (b"Bearer -._~+/", "-._~+/"),
    (b"Bearer   a:b:c", "a:b:c"),  # Departs from §2.1, as Cloudflare does
    (b"Bearer 1|abc", "1|abc"),  # Laravel Sanctum
    (b"Bearer bearer", "bearer"),
    *((b"Bearer " + token.encode(), token) for token in (string.ascii_letters, VISIBLE)),
    (b"Bearer " + b"a" * 65536, "a" * 65536),
]

# Bearer credentials that are not one token: 400
MALFORMED = [
    *(b"Bearer", b"Bearer ", b"Bearer   ", b"Bearer\t", b"Bearer\ta", b"Bearer \ta"),
    *(b"Bearer=a", b"Bearer,a", b"Bearer:a", b"Bearer/a", b"bearer:a", b"Bearer: a"),
    *(b"Bearer a ", b"Bearer a\t", b"Bearer a b", b"Bearer  a b", b"Bearer Bearer a"),
    *(b"Bearer a,b", b"Bearer a,", b"Bearer a, Bearer a", b"Bearer a =", b"Bearer a= ="),
    *(b'Bearer "a"', b"Bearer 'a'", b"Bearer a'", b"Bearer a\n", b"Bearer a\r\nx-injected: 1"),
    *(b"Bearer a\0", b"Bearer \0", b"Bearer \0a", b"Bearer\0a", b"Bearer a\x0b"),
    *(b"Bearer \x7f", b"Bearer a\x7f", b"Bearer a\x80", b"Bearer a\xa0", b"Bearer\xa0a"),
    b"Bearer \xc3\xa9",
]

# as if there were no credentials: 401 without an error
OTHER_SCHEMES = [
    *(b"", b" ", b" Bearer a", b"Beare", b"Beare a", b"Bearera", b"BearerX a", b"Bearer2 a"),
    *(b"XBearer a", b"B\xc3\xa9arer a", b"Basic ", b"Basic YTpi", b"DPoP a", b"Token a"),
    *(b"Digest x=y", b"Mutual,a", b"a a"),
]

# a query, and whether it holds a token
QUERIES = [
    (b"", False),
    (b"a=1", False),
    (b"access_token", False),
    (b"q=access_token", False),
    (b"access_token=", True),
    (b"access_token=x", True),
    (b"a=1&access_token=", True),
    (b"access_token=x&a=1", True),
    (b"a=1&access_token=x&b=2", True),
    (b"&access_token=&", True),
    (b"xaccess_token=1", False),
    (b"my_access_token=x", False),
    (b"not_access_token=5&accesstoken=1", False),
    (b"a=access_token=x", False),
    (b"a=1;access_token=x", False),
    (b"q=%26access_token=x", False),
    (b"Access_Token=x", False),
    (b"access_tokens=1&a=access_token=", False),
]
