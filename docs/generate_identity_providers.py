"""Write the second part of identity-providers.md from the catalog; a test compares the two.

python -m docs.generate_identity_providers
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from asgi_mcp_auth.presets import CATALOG
from asgi_mcp_auth.presets.model import OIDC, Introspected, JWTs, Preset, Profiles

PAGE = Path(__file__).with_name("identity-providers.md")

MARK = (
    "<!-- From here on written by docs/generate_identity_providers.py: change asgi_mcp_auth/presets"
    " instead. -->"
)
HEAD = """
| provider | name | `remote` | `proxy` | `verifier` | checked |
| --- | --- | --- | --- | --- | --- |
"""


def page() -> str:
    """Return the page: what is above the mark as it is, what is below it from the catalog."""
    written_by_hand = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    parts = [
        written_by_hand,
        MARK,
        "\n",
        HEAD,
        *(_row(name, preset) for name, preset in CATALOG.items()),
    ]
    for name, preset in CATALOG.items():
        parts += ["\n", *(f"{line}\n" for line in _section(name, preset))]
    return "".join(parts)


def _row(name: str, preset: Preset) -> str:
    title = f"[{preset.title}](#{preset.title.lower().replace(' ', '-')})"
    remote = _with_audience(preset) if preset.registration is not None else "no"
    proxy = "yes" if preset.login is not None else "no need"
    verifier = _with_audience(preset) if preset.tokens is not None else "no"
    return f"| {title} | `{name}` | {remote} | {proxy} | {verifier} | {preset.checked} |\n"


def _with_audience(preset: Preset) -> str:
    if isinstance(preset.tokens, Profiles):
        return "`ANY_AUDIENCE`"
    if preset.tokens is None or preset.tokens.audience.kind == "resource":
        return "yes"
    if preset.tokens.audience.kind == "none":
        return "`ANY_AUDIENCE`"
    is_known = preset.tokens.audience.kind == "named" and preset.tokens.audience.value is not None
    return "yes" if is_known else "with `audience=`"


def _section(name: str, preset: Preset) -> Iterator[str]:
    yield f"## {preset.title}"
    yield ""
    yield "```python"
    yield from _example(name, preset)
    yield "```"
    yield ""
    if preset.parameters:
        yield "| parameter | default | meaning |"
        yield "| --- | --- | --- |"
        for key, each in preset.parameters.items():
            default = (
                f'`"{each.default}"`'
                if each.default is not None
                else "required"
                if each.required
                else "`None`"
            )
            choices = (
                f": {', '.join(f'`{choice}`' for choice in each.choices)}" if each.choices else ""
            )
            yield f"| `{key}` | {default} | {each.meaning}{choices} |"
        yield ""
    yield (
        "- Clients:"
        f" {preset.registration.how if preset.registration else 'cannot register by themselves'}."
    )
    yield f"- Tokens: {_tokens(preset)}."
    yield f"- Checked: {preset.checked} ([begin here]({preset.source})){_unchecked(preset)}."
    yield ""
    for number, step in enumerate(preset.steps, 1):
        yield f"{number}. {step}"


def _example(name: str, preset: Preset) -> Iterator[str]:
    is_remote = preset.registration is not None and _with_audience(preset) == "yes"
    yield f"provider = presets.{'remote' if is_remote else 'proxy'}("
    yield f'    "{name}",'
    for key, each in preset.parameters.items():
        if each.default is None and each.required:
            yield f'    {key}="{each.example}",'
    if not is_remote or isinstance(preset.tokens, Introspected):
        yield '    client_id="the-client-id",'
        yield '    client_secret=os.environ["CLIENT_SECRET"],'
    yield '    base_url="https://mcp.example.com",'
    yield ")"


def _tokens(preset: Preset) -> str:
    if preset.tokens is None:
        return "opaque, and nobody else can verify them"
    if isinstance(preset.tokens, Profiles):
        return f"opaque; the profile's `{preset.tokens.subject_claim}` says whose they are"
    kind = (
        "JWTs"
        if isinstance(preset.tokens, JWTs)
        else "opaque, the provider is asked about each (introspection)"
    )
    note = re.sub(r"\baud\b", "`aud`", preset.tokens.audience.note)
    return f"{kind}; {note}"


def _unchecked(preset: Preset) -> str:
    login = preset.login
    more = (
        ""
        if isinstance(login, OIDC) or login is None
        else "; people sign in with OAuth, not OpenID Connect"
    )
    return (f"; not: {preset.unchecked}" if preset.unchecked else "") + more


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE}")
