"""Mutation testing: ``python -m fuzz.mutate [module…]`` changes a module, one small change at a
time, and runs tests.

A mutant that no test notices survives. It is either a hole in the tests or a change that changes
nothing; the latter stand in docs/how-it-is-tested.md with a reason each, and any other survivor
makes the command fail. MODULES and JOBS do what the options do.

How: the tree is copied, the tests run once with coverage for each test, then each mutant in a
forked process of its own with an import hook in place of the mutated module: first some tests that
reach the line, then those of the function.
"""

from __future__ import annotations

import argparse
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from fuzz.mutators import Mutant, mutants_of

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "mutants"
EXPLAINED = ROOT / "docs" / "how-it-is-tested.md"
MODULES = (
    "claims",
    "settings",
    "_jose",
    "_signatures",
    "_json",
    "headers",
    "jwt",
    "keys",
    "redirects",
    "grants.codes",
    "grants.authorization_code",
    "grants.refresh_token",
    "grants.client_credentials",
    "grants.revocation",
    "grants.ledger",
    "grants.scopes",
    "tokens.refresh",
    "clients.authentication",
)
# The tests that were written to know a module's edges.
OWN_TESTS = {
    "_jose": "tests/verifiers/test_jose.py",
    "_json": "tests/verifiers/test_json.py",
    "_settings": "tests/verifiers/test_claims.py",
    "_signatures": "tests/verifiers/test_jose.py",
    "_urls": "tests/verifiers/test_urls.py",
    "claims": "tests/verifiers/test_claims.py",
    "headers": "tests/verifiers/test_headers.py",
    "jwt": "tests/verifiers/test_jwt.py",
    "keys": "tests/verifiers/test_which_key.py",
    "authentication": "tests/server/token/test_client_auth.py",
    "authorization_code": "tests/server/token/test_grants.py",
    "client_credentials": "tests/server/token/test_grants.py",
    "codes": "tests/server/token/test_grants.py",
    "ledger": "tests/server/token/test_ledger.py",
    "refresh": "tests/server/token/test_refresh_tokens.py",
    "refresh_token": "tests/server/token/test_grants.py",
    "revocation": "tests/server/token/test_grants.py",
    "scopes": "tests/server/token/test_scopes.py",
    "login": "tests/proxy/test_login.py",
    "tokens": "tests/proxy/test_tokens.py",
}
PACKAGES = ("asgi_mcp_auth", "asgi_mcp_auth/server")
# Parts of a module under a name of their own: the module, and the functions.
PARTS = {
    "settings": (
        "_settings",
        (
            "check_seconds",
            "check_count",
            "check_kind",
            "check_names",
            "check_scopes",
            "check_issuers",
        ),
    ),
    "redirects": (
        "_urls",
        (
            "check_redirect_schemes",
            "check_redirect_uri",
            "is_loopback_redirect",
            "redirect_uri_matches",
            "redirect_host",
            "with_parameters",
        ),
    ),
}
TESTS = ("tests/verifiers", "tests/rfc", "tests/attacks", "tests/request_path")
SERVER_TESTS = (
    "tests/server",
    "tests/rfc",
    "tests/attacks",
    "tests/verifiers",
    *(
        f"tests/proxy/test_{name}.py"
        for name in ("sign_in", "refusals", "kept_tokens", "tokens", "login")
    ),
)
# Tests that start processes: a mutant is in its own process only, which ends without ending others.
LEFT_OUT = (
    "-m",
    "not slow",
    "-k",
    "not redis and not postgresql",
    "--ignore=tests/server/test_races.py",
    "--ignore=tests/server/test_workers.py",
    "--ignore=tests/attacks/test_storage.py",
)
# Not the package itself: each forked process imports that anew, with the mutant in it.
PRELOADED = (
    "asyncio",
    "cachetools",
    "cryptography.x509",
    "httpx",
    "jose.backends",
    "joserfc.jwt",
    "hypothesis.strategies",
)
# others cost half a second a mutant
PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin")
SECONDS_PER_TEST = 30
SECONDS_PER_MUTANT = 300
# for one mutant; the tests left out are the slow ones, which start servers and clients
SECONDS_OF_TESTS = 5.0
SURVIVED = ("survived", "uncovered")
FIRST_TESTS = 60  # most mutants die in the first few tests: no need to collect all of them


class Target(NamedTuple):
    """What is mutated: a module, or some of its functions."""

    name: str
    module: str
    path: Path
    functions: tuple[str, ...] = ()

    @classmethod
    def named(cls, name: str) -> Target | None:
        """Return the target with this name, ``None`` when there is none."""
        module, functions = PARTS.get(name, (name, ()))
        *folder, module = module.split(".")
        for package in PACKAGES:
            path = Path(package, *folder, f"{module}.py")
            if (ROOT / path).exists():
                return cls(name, module, path, functions)
        return None

    def mutants(self) -> Iterator[Mutant]:
        """Yield the mutants, in the order of the source."""
        for mutant in mutants_of(self.module, self.path.read_text()):
            if not self.functions or mutant.place in self.functions:
                yield mutant


class Test(NamedTuple):
    """What the baseline says of a test."""

    seconds: float
    lines: dict[str, frozenset[int]]  # module → lines

    def reaches(self, mutant: Mutant) -> bool:
        """Return whether it runs the line; lines that run at import count for everyone who needs
        the module.
        """
        lines = self.lines.get(mutant.module, frozenset())
        return mutant.line in lines or (bool(lines) and not mutant.around.start)

    def comes_near(self, mutant: Mutant) -> bool:
        """Return whether it runs the function."""
        return any(line in mutant.around for line in self.lines.get(mutant.module, ()))


class Verdict(NamedTuple):
    """What happened to a mutant."""

    mutant: Mutant
    outcome: str  # killed, timeout, survived, uncovered
    by: str


def main() -> int:
    """Run the modules that were asked for."""
    parser = argparse.ArgumentParser(description="Mutation testing of the modules that decide.")
    parser.add_argument(
        "modules",
        nargs="*",
        default=os.environ.get("MODULES", "").replace(",", " ").split() or MODULES,
    )
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("JOBS", 2)))
    parser.add_argument(
        "--only", default="", help="a regular expression that the mutant's name has to contain"
    )
    parser.add_argument(
        "--again", action="store_true", help="only the mutants that survived the last time"
    )
    parser.add_argument("--list", action="store_true", help="show the mutants and stop")
    options = parser.parse_args()
    targets = {name: Target.named(name) for name in options.modules}
    if unknown := [name for name, target in targets.items() if target is None]:
        parser.error(f"no module named {', '.join(unknown)}")
    found = [target for target in targets.values() if target is not None]

    work = Path(tempfile.mkdtemp(prefix="mutate-"))
    try:
        for name in ("asgi_mcp_auth", "tests", "fuzz", "examples", "pyproject.toml"):
            _copy(ROOT / name, work / name)
        os.chdir(work)
        sys.path[:] = [str(work), *(each for each in sys.path if each not in ("", str(ROOT)))]
        mutants = [
            mutant
            for target in found
            for mutant in target.mutants()
            if re.search(options.only, mutant.key)
            and (not options.again or mutant.key in _last_survivors())
        ]
        if options.list:
            print("\n".join(f"{mutant.line:4} {mutant.key}" for mutant in mutants))
            return 0
        return _run(mutants, found, options.jobs)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@functools.cache
def _last_survivors() -> frozenset[str]:
    """Return the names of the mutants that survived when they were tried last."""
    latest: dict[str, str] = {}
    for report in sorted(REPORT.glob("*.json"), key=lambda path: path.stat().st_mtime):
        latest |= {key: outcome for key, _, outcome, _ in json.loads(report.read_text())}
    return frozenset(key for key, outcome in latest.items() if outcome in SURVIVED)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("node_modules", "__pycache__", "corpus", "findings")
        shutil.copytree(source, target, ignore=ignored, symlinks=True)
    elif source.exists():
        shutil.copy(source, target)


def _run(mutants: list[Mutant], targets: Sequence[Target], jobs: int) -> int:
    started = time.monotonic()
    for name in (*PRELOADED, *PLUGINS):
        importlib.import_module(name)
    sys.dont_write_bytecode = False  # compiled tests stay in the copy, for all mutants
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ["HYPOTHESIS_PROFILE"] = "mutate"
    settings.register_profile(
        "mutate",
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=30,
        suppress_health_check=list(HealthCheck),
    )
    print(f"{len(mutants)} mutants. Running the tests as they are ...", flush=True)
    tests = _baseline(targets)
    print(
        f"{len(tests)} tests reach these modules,"
        f" {sum(each.seconds for each in tests.values()):.0f} s",
        flush=True,
    )

    paths = {target.module: target.path for target in targets}
    first = [(mutant, _cheapest(mutant, tests)) for mutant in mutants]
    verdicts = {
        verdict.mutant: verdict for verdict in _try_all(first, paths, jobs, "tests of the line")
    }
    _remember(verdicts.values())
    # What a fixture or a cached helper runs is booked on the first test that needs it: a module's
    # own tests all run again.
    second = [
        (
            mutant,
            _affordable(
                [name for name in tests if tests[name].comes_near(mutant) or _is_own(name, mutant)],
                tests,
            ),
        )
        for mutant, verdict in verdicts.items()
        if verdict.outcome in SURVIVED
    ]
    verdicts |= {
        verdict.mutant: verdict
        for verdict in _try_all(second, paths, jobs, "tests of the function")
    }
    return _report([verdicts[mutant] for mutant in mutants], [*paths], time.monotonic() - started)


def _is_own(test: str, mutant: Mutant) -> bool:
    """Return whether the test was written for the module."""
    return test.partition("::")[0] == OWN_TESTS.get(mutant.module)


def _cheapest(mutant: Mutant, tests: dict[str, Test]) -> list[str]:
    """Return the fastest tests that reach the line, out of few files: collecting a file costs more
    than most tests.

    The module's own tests come first.
    """
    by_file: dict[str, list[str]] = {}
    for name in sorted(tests, key=lambda name: tests[name].seconds):
        # Tests of constants reach no line.
        if tests[name].reaches(mutant) or (_is_own(name, mutant) and not mutant.around.start):
            by_file.setdefault(name.partition("::")[0], []).append(name)
    chosen: list[str] = []
    for file in sorted(
        by_file, key=lambda file: (_is_own(file, mutant), len(by_file[file])), reverse=True
    ):
        chosen += by_file[file] if _is_own(file, mutant) else by_file[file][:FIRST_TESTS]
        if len(chosen) >= FIRST_TESTS:
            break
    return chosen


def _affordable(names: Iterable[str], tests: dict[str, Test]) -> list[str]:
    """Return the fastest tests up to the limit."""
    chosen: list[str] = []
    left = SECONDS_OF_TESTS
    for name in sorted(names, key=lambda name: tests[name].seconds):
        left -= tests[name].seconds
        if left < 0:
            break
        chosen.append(name)
    return chosen


def _try_all(
    work: list[tuple[Mutant, list[str]]], paths: Mapping[str, Path], jobs: int, title: str
) -> Iterator[Verdict]:
    """Run each mutant in a process of its own, several at once."""
    running: dict[int, tuple[Mutant, float, Path]] = {}
    queue = iter(work)
    done = 0
    directory = Path(tempfile.mkdtemp(prefix="verdicts-"))
    try:
        while True:
            while len(running) < jobs and (task := next(queue, None)) is not None:
                note = directory / f"{task[0].module}-{task[0].number}"
                running[_spawn(*task, paths[task[0].module], note)] = (
                    task[0],
                    time.monotonic(),
                    note,
                )
            if not running:
                return
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                time.sleep(0.02)
                for child, (_, since, _) in running.items():
                    if time.monotonic() - since > SECONDS_PER_MUTANT:
                        os.kill(child, signal.SIGKILL)
                continue
            mutant, _, note = running.pop(pid)
            done += 1
            if done % 50 == 0 or done == len(work):
                print(f"  {title}: {done} of {len(work)}", flush=True)
            by = note.read_text() if note.exists() else ""
            outcome = _outcome(status, by)
            yield Verdict(mutant, outcome, by)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _outcome(status: int, by: str) -> str:
    if os.WIFSIGNALED(status):
        return "timeout"
    code = os.waitstatus_to_exitcode(status)
    if code == pytest.ExitCode.OK:
        return "survived"
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        return "uncovered"
    return "timeout" if "Timeout" in by else "killed"


def _spawn(mutant: Mutant, names: list[str], path: Path, note: Path) -> int:
    """Start the process that runs ``names`` with the mutant; it leaves the name of the test that
    failed in ``note``.
    """
    if pid := os.fork():
        return pid
    code = 70
    try:
        _silence()
        sys.meta_path.insert(0, _Hook(".".join(path.with_suffix("").parts), mutant.source))
        # Without a name pytest would collect everything.
        nothing = int(pytest.ExitCode.NO_TESTS_COLLECTED)
        code = _pytest(names, "-x", "--tb=no", plugin=_Chooser(names, note)) if names else nothing
    finally:
        os._exit(code)


def _silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _pytest(paths: Iterable[str], *arguments: str, plugin: object) -> int:
    files = sorted({path.partition("::")[0] for path in paths})
    quiet = ["-q", "-p", "no:cacheprovider", f"--timeout={SECONDS_PER_TEST}", *LEFT_OUT]
    quiet += ["-p", "no:measurement"]  # of tests/conftest.py: here every test is measured
    quiet += [word for name in PLUGINS for word in ("-p", name)]
    # they are imported already, once for all mutants
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*quiet, *arguments, *files], plugins=[plugin]))


class _Chooser:
    """A pytest plugin: only these tests, in this order; notes the one that fails."""

    def __init__(self, names: Sequence[str], note: Path) -> None:
        self._order = {name: position for position, name in enumerate(names)}
        self._note = note

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted(
            (each for each in items if each.nodeid in self._order),
            key=lambda each: self._order[each.nodeid],
        )

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._note.write_text(f"{report.nodeid} {str(report.longrepr)[-300:]}")

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._note.write_text(f"{report.nodeid} (while it was collected)")


class _Hook(importlib.abc.MetaPathFinder):
    """Imports one module from another text."""

    def __init__(self, name: str, source: str) -> None:
        self._name, self._source = name, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> Any:
        if fullname != self._name:
            return None
        file = Path.cwd() / (self._name.replace(".", "/") + ".py")
        return importlib.util.spec_from_file_location(
            fullname, file, loader=_Loader(fullname, str(file), self._source)
        )


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


def _baseline(targets: Sequence[Target]) -> dict[str, Test]:
    """Run the tests once, in a process of its own, and return which lines each one reaches."""
    note = Path(tempfile.mkstemp(prefix="baseline-")[1])
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _record(targets, note)
        except BaseException:  # noqa: BLE001 (a forked process must not go on in its parent's code)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit("The tests cannot be run: the output is above.")
    recorded = json.loads(note.read_text())
    note.unlink()
    return {
        name: Test(seconds, {module: frozenset(lines) for module, lines in reached.items()})
        for name, (seconds, reached) in recorded.items()
        if reached or name.partition("::")[0] in OWN_TESTS.values()
    }


def _record(targets: Sequence[Target], note: Path) -> int:
    import coverage

    files = {target.module: str(Path.cwd() / target.path) for target in targets}
    at_server = [
        not {"server", "proxy"}.isdisjoint(target.path.parts) or bool(target.functions)
        for target in targets
    ]
    folders = (*(SERVER_TESTS if any(at_server) else ()), *(() if all(at_server) else TESTS))
    measuring = coverage.Coverage(data_file=None, config_file=False, include=list(files.values()))
    seconds: dict[str, float] = {}
    failed: set[str] = set()  # they fail without any mutant, so they say nothing about one

    class Recorder:
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
            measuring.switch_context(item.nodeid)
            started = time.monotonic()
            result = yield
            seconds[item.nodeid] = time.monotonic() - started
            return result

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                failed.add(report.nodeid)

    measuring.start()
    paths = [name for name in dict.fromkeys(folders) if Path(name).exists()]
    code = _pytest(paths, "--tb=short", plugin=Recorder())
    measuring.stop()
    data = measuring.get_data()
    reached: dict[str, dict[str, list[int]]] = {name: {} for name in seconds}
    for module, file in files.items():
        for line, contexts in data.contexts_by_lineno(file).items():
            for context in contexts:
                if context in reached:
                    reached[context].setdefault(module, []).append(line)
    note.write_text(
        json.dumps({name: (seconds[name], reached[name]) for name in seconds.keys() - failed})
    )
    return code


def _remember(verdicts: Iterable[Verdict]) -> None:
    rows = [[each.mutant.key, each.mutant.line, each.outcome, each.by] for each in verdicts]
    REPORT.mkdir(exist_ok=True)
    (REPORT / f"{time.time_ns()}.json").write_text(json.dumps(rows, indent=0, ensure_ascii=False))


def _report(verdicts: list[Verdict], modules: Sequence[str], seconds: float) -> int:
    page = EXPLAINED.read_text() if EXPLAINED.exists() else ""
    explained = set(re.findall(r"^- (`\S+`: `.*?` → `.*?`)", page, re.MULTILINE))
    survivors = [each for each in verdicts if each.outcome in SURVIVED]
    unexplained = [each for each in survivors if each.mutant.key not in explained]
    _remember(verdicts)

    print(
        "\n| module | mutants | killed | timed out | explained | unexplained | score"
        " |\n|---|---|---|---|---|---|---|"
    )
    for module in [*modules, "all"]:
        count = Counter(each.outcome for each in verdicts if module in (each.mutant.module, "all"))
        left = sum(module in (each.mutant.module, "all") for each in unexplained)
        survived = count["survived"] + count["uncovered"]
        dead = count.total() - survived
        cells = (module, count.total(), count["killed"], count["timeout"], survived - left, left)
        print("|", *(f"{cell} |" for cell in cells), f"{100 * dead / max(1, dead + left):.1f} % |")
    print(f"\n{seconds / 60:.0f} minutes. The score leaves the explained survivors out.")
    for each in unexplained:
        print(f"{each.outcome}: line {each.mutant.line}: {each.mutant.key}")
    tried = {each.mutant.key for each in verdicts}
    for key in sorted((explained & tried) - {each.mutant.key for each in survivors}):
        print(f"No longer a survivor, remove it from {EXPLAINED.relative_to(ROOT)}: {key}")
    return int(bool(unexplained))


if __name__ == "__main__":
    sys.exit(main())
