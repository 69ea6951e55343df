"""The lock file is that of the project's dependencies, and names what it is made with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")


def locked():
    """Return the entries of requirements.lock: versions and hashes by name."""
    found = {}
    for entry in re.split(r"\n(?=\S)", LOCK.strip()):
        name, version = re.match(r"(\S+?)==(\S+)", entry).groups()
        found[canonicalize_name(name)] = version, re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
    return found


def test_every_dependency_is_locked_in_a_version_that_fits():
    """What pyproject.toml asks for; scripts/lock writes the file anew."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    versions = {name: version for name, (version, _) in locked().items()}

    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_what_is_locked_is_what_is_tested():
    """The versions of constraints.txt."""
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    )
    tested = {canonicalize_name(name): version for name, version in pins.items()}
    differ = {
        name: (version, tested[name])
        for name, (version, _) in locked().items()
        if tested.get(name, version) != version
    }

    assert not differ


def test_every_entry_has_hashes_and_no_address():
    """Wherever it comes from, it is the same file."""
    assert all(hashes for _, hashes in locked().values())
    assert "://" not in LOCK
