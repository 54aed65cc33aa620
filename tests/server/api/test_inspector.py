"""The inspector's files, as browsers get them."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from gatescope.server.api import inspector

ROOT = Path(__file__).parents[3]
INSPECTOR = ROOT / "app" / "gatescope" / "server" / "inspector"
FILES = sorted(path.name for path in INSPECTOR.iterdir())
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@pytest.fixture(scope="module")
def keyed(serve):
    with serve(api_keys=("reader",)) as client:
        yield client


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_open_has_its_kind_and_may_run_nothing_from_elsewhere(keyed, name):
    reply = keyed.get(f"/inspector/{name}")
    assert reply.content == (INSPECTOR / name).read_bytes()
    assert reply.headers["content-type"].split(";")[0] == KINDS[Path(name).suffix]
    assert "default-src 'none'; script-src 'self';" in reply.headers["content-security-policy"]
    assert "http://" not in reply.text.replace("http://www.w3.org/", "")


def test_the_page_stands_at_the_root_and_names_the_parts_of_this_version(keyed):
    reply = keyed.get("/")
    parts = re.findall(r'"(/inspector/[^"]+)"', reply.text)
    assert sorted(Path(part).name for part in parts) == [name for name in FILES if name != "index.html"]
    assert len({Path(part).parent for part in parts}) == 1
    assert keyed.head("/").headers["content-length"] == str(len(reply.content))
    assert keyed.post("/").status_code == 405


def test_a_browser_asks_again_and_is_told_that_nothing_has_changed(keyed):
    for path in ("/", "/inspector/main.js"):
        first = keyed.get(path)
        assert first.headers["cache-control"] == "no-cache"
        again = keyed.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"] == first.headers["content-security-policy"]


def test_a_part_is_kept_below_the_path_of_its_version_and_of_no_other(keyed):
    here = re.search(r'"(/inspector/[^"]+)/main.js"', keyed.get("/").text)[1]
    part, other = keyed.get(f"{here}/state.js"), keyed.get(f"/inspector/v-{'0' * 16}/state.js")
    assert part.content == other.content == (INSPECTOR / "state.js").read_bytes()
    assert part.headers["cache-control"].endswith("immutable")
    assert other.headers["cache-control"] == "no-cache"
    assert keyed.get(f"{here}/nothing.js").status_code == 404


def test_a_changed_file_makes_another_version(keyed, monkeypatch, tmp_path):
    shutil.copytree(inspector.FOLDER, tmp_path / "inspector")
    monkeypatch.setattr(inspector, "FOLDER", tmp_path / "inspector")
    before = keyed.get("/")
    (tmp_path / "inspector" / "state.js").touch()
    after = keyed.get("/", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.text != before.text


@pytest.mark.parametrize("path", ["nothing.js", "", "..%2fmain.py", "%2e%2e/main.py", "..%5cmain.py"])
def test_nothing_else_is_given_out(keyed, path):
    reply = keyed.get(f"/inspector/{path}")
    assert (reply.status_code, reply.json()["title"]) in ((404, "NotFound"), (401, "Unauthorized"))


def test_every_module_that_is_imported_is_there():
    for name in FILES:
        text = (INSPECTOR / name).read_text()
        for other in re.findall(r'from "\./([^"]+)"|/inspector/([\w.-]+)"', text):
            assert "".join(other) in FILES, name


def test_the_files_are_part_of_the_package():
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "server/inspector/*" in packaged["gatescope"]
