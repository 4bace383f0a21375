"""The style sheet of the built-in pages, light and dark. Pure."""

from __future__ import annotations

_STYLE = """
:root {
  color-scheme: light dark;
  --accent: ACCENT; --on-accent: CONTRAST;
  --text: #1c1c1e; --muted: #56565c;
  --page: #f3f3f6; --card: #fff; --line: #d9d9e0; --edge: #77777d;
  --warn: #6b3600; --warn-page: #fff4e5;
  --bad: #a30000; --bad-page: #fdeeee;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #f2f2f4; --muted: #b4b4bb;
    --page: #141416; --card: #1f1f22; --line: #3c3c42; --edge: #8c8c93;
    --warn: #ffcf99; --warn-page: #38290f;
    --bad: #ffb0b0; --bad-page: #3d1d1d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif;
}
header, main { max-width: 30rem; margin: 0 auto; overflow-wrap: anywhere; }
header { padding: 2rem calc(2.25rem + 1px) .75rem; font-weight: 600; }
header img { display: block; max-height: 3rem; max-width: 100%; margin-bottom: .5rem; }
main { padding: 0 1rem 3rem; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.5rem 1.25rem;
}
h1 { font-size: 1.375rem; line-height: 1.3; margin: 0 0 .75rem; }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .75rem 0; }
a { color: inherit; text-underline-offset: .15em; }
label { display: block; margin: 1rem 0 .35rem; font-weight: 600; }
input {
  width: 100%; font: inherit; padding: .6rem .7rem;
  border: 1px solid var(--edge); border-radius: .5rem;
  background: var(--card); color: var(--text);
}
button, .button {
  display: inline-block; font: inherit; font-weight: 600; padding: .6rem 1.2rem;
  border-radius: .5rem; border: 1px solid var(--accent);
  background: var(--accent); color: var(--on-accent); cursor: pointer;
  text-decoration: none; min-height: 2.75rem; max-width: 100%; overflow-wrap: anywhere;
}
button.plain { background: transparent; color: var(--text); border-color: var(--edge); }
:focus-visible { outline: 3px solid var(--text); outline-offset: 2px; }
.buttons { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.5rem; }
.note { color: var(--muted); font-size: .9375rem; }
.warning, .problem { padding: .7rem .9rem; border-radius: .5rem; border: 1px solid; }
.warning { background: var(--warn-page); color: var(--warn); }
.problem { background: var(--bad-page); color: var(--bad); font-weight: 600; }
dl { margin: 1rem 0 0; border-top: 1px solid var(--line); }
dl div { padding: .6rem 0; border-bottom: 1px solid var(--line); }
dt { color: var(--muted); font-size: .9375rem; }
dd { margin: 0; font-weight: 600; }
ul { margin: .25rem 0; padding-left: 1.25rem; }
li { margin: .25rem 0; }
article { border-top: 1px solid var(--line); padding: 1.25rem 0; }
article h2 { margin: 0; }
article p { margin: .35rem 0; }
article button { margin-top: .5rem; }
footer { border-top: 1px solid var(--line); }
"""


def style_sheet(accent: str) -> str:
    """Return the style sheet with this color, ``#rrggbb``, for buttons."""
    return _STYLE.replace("ACCENT", accent).replace("CONTRAST", text_on(accent))


def text_on(color: str) -> str:
    """Return white or black, whichever is readable on ``#rrggbb``.

    WCAG 2.2 §1.4.3: the contrast is at least 4.5.
    """
    red, green, blue = (_linear(int(color[at : at + 2], 16) / 255) for at in (1, 3, 5))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#fff" if 1.05 / (luminance + 0.05) >= 4.5 else "#000"


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
