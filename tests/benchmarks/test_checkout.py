import subprocess

import pytest

from benchmarks import library
from benchmarks.checkout import HERE, Checkout, NoCheckout


@pytest.mark.parametrize("name", library._PLACES)
def test_every_internal_name_is_found(name):
    assert library.find(name) is not None


def test_this_checkout_starts_its_own_command():
    asked = [*HERE.command, "--help"]
    assert "serve" in subprocess.run(asked, env=HERE.environment, capture_output=True, text=True, check=True).stdout


def test_an_old_checkout_has_the_package_app(tmp_path):
    (tmp_path / "app").mkdir()
    with pytest.raises(NoCheckout, match="neither"):
        Checkout(tmp_path)
    (tmp_path / "app" / "__init__.py").touch()
    old = Checkout(tmp_path)
    assert (old.package, old.source) == ("app", tmp_path)
    assert (HERE.package, HERE.source) == ("gatescope", HERE.root / "app")
