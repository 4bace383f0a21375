"""Tables of rows that one test goes through.

@rows(("text", "value"), [("0", 0), ("1", 1)])
def test_digits_are_numbers(text: str, value: int) -> None: ...

It is written like ``pytest.mark.parametrize``, and the rows that fail are named, all of them. A
test for each row would cost more in pytest than in the code under test.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


def rows(
    names: str | Sequence[str],
    table: Iterable[Any],
    *,
    ids: Iterable[str] | Callable[[Any], object] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Run a test, which may be asynchronous, with each row.

    Fixtures are set up once, for all rows. Without ``ids``, a row is named by its values.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    given = [dict(zip(names, row if len(names) > 1 else (row,), strict=True)) for row in table]
    labels = [_label(row) for row in given] if ids is None or callable(ids) else list(ids)
    labelled = list(zip(labels, given, strict=True))
    assert labelled, "a table without rows proves nothing"

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def run(**fixtures: Any) -> None:
                failures = _Failures()
                for label, row in labelled:
                    with failures.noted(label):
                        await test(**row, **fixtures)
                failures.told(len(labelled))

        else:

            @functools.wraps(test)
            def run(**fixtures: Any) -> None:
                failures = _Failures()
                for label, row in labelled:
                    with failures.noted(label):
                        test(**row, **fixtures)
                failures.told(len(labelled))

        seen = inspect.signature(test)
        others = [each for each in seen.parameters.values() if each.name not in names]
        run.__signature__ = seen.replace(parameters=others)  # type: ignore[attr-defined]
        return run

    return decorate


def _label(row: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_SHORT.repr(value)}" for name, value in row.items())


class _Failures:
    def __init__(self) -> None:
        self._found: list[tuple[str, BaseException]] = []

    @contextmanager
    def noted(self, label: str) -> Iterator[None]:
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:
            if str(error).startswith("Timeout"):
                raise  # pytest-timeout rings once: another row that hangs would never end
            self._found.append((label, error))

    def told(self, total: int) -> None:
        """Fail with a line for each row that failed; the traceback is that of the first."""
        if self._found:
            lines = [
                f"{label}: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
                for label, error in self._found
            ]
            raise AssertionError(
                "\n".join([f"{len(lines)} of {total} rows", *lines])
            ) from self._found[0][1]
