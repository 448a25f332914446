"""Run every check of the project, in the order in which they are quick to fail.

    python scripts/check.py           style, types, layers, documentation site, tests
    python scripts/check.py --fast    all but the tests

Run it with the Python of an environment that has the development tools; ``python3 run.py test``
makes one. All checks run even when one has failed. Exit code 0 when all have passed, else 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
WITHOUT_TORCH = (
    "tests/cli/test_start_up.py",
    "tests/encoders/test_whisper.py",
    "tests/pipeline/test_product.py",
    "tests/pipeline/test_first_frame.py",
)
"""Tests that are run a second time, where torch is hidden as in a default installation."""
CHECKS = (
    ("ruff check", ("-m", "ruff", "check", ".")),
    ("ruff format", ("-m", "ruff", "format", "--check", ".")),
    ("mypy", ("-m", "mypy")),
    ("lint-imports", ("-c", LAYERS)),
    ("mkdocs", ("-m", "mkdocs", "build", "--strict", "--quiet")),
    ("pytest without torch", ("-m", "pytest", "-p", "without_torch", *WITHOUT_TORCH)),
    ("pytest", ("-m", "pytest", "-n", "2", "--dist", "loadscope")),
)


def run_check(name: str, arguments: tuple[str, ...]) -> tuple[bool, str]:
    """Run one check; whether it passed, and its line of the summary."""
    print(f"--- {name}", flush=True)
    start = time.monotonic()
    passed = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode == 0
    seconds = time.monotonic() - start
    return passed, f"{'passed' if passed else 'FAILED'}  {name} ({seconds:.0f} s)"


def main() -> int:
    """Run the checks and print a summary."""
    parser = argparse.ArgumentParser(description="Run all checks of the project.")
    parser.add_argument("--fast", action="store_true", help="leave the tests out")
    fast = parser.parse_args().fast
    checks = [check for check in CHECKS if not (fast and check[0].startswith("pytest"))]
    results = [run_check(name, arguments) for name, arguments in checks]
    print("--- summary")
    for _, line in results:
        print(line)
    return 0 if all(passed for passed, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
