"""What `authsec_core.testing` offers, and that offering it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import authsec_core.testing


def test_all_is_sorted_and_every_name_can_be_imported() -> None:
    """`__all__` is sorted, and each of its names is there."""
    names = authsec_core.testing.__all__
    assert names == sorted(names)
    assert all(getattr(authsec_core.testing, name) is not None for name in names)
    assert set(names) <= set(dir(authsec_core.testing))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that does not exist fails as it does in any module."""
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = authsec_core.testing.Nothing


def test_importing_the_package_and_its_plugin_loads_no_server_and_no_cryptography() -> None:
    """A project that merely has authsec installed pays nothing for the pytest plugin."""
    program = (
        "import sys, authsec_core.testing, authsec_core.testing.plugin;"
        "heavy = {'cryptography', 'jwt', 'httpx', 'http.server', 'ssl', 'pydantic', 'authsec_core.testing._loopback'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
