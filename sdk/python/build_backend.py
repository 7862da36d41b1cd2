"""Builds the package as PEP 517 and PEP 660 ask, with nothing but the standard library.

setuptools would have to be downloaded before each installation.
"""

from __future__ import annotations

import base64
import hashlib
import io
import pathlib
import re
import tarfile
import zipfile
from typing import Any, Dict, List

HERE = pathlib.Path(__file__).resolve().parent
LICENSE = HERE.parent.parent / "LICENSE"  # not there in an unpacked sdist, which has its own
TAG = "py3-none-any"


def build_wheel(directory: str, settings: Any = None, metadata_directory: Any = None) -> str:
    """Write the wheel into a directory and return its name."""
    return _write_wheel(directory, {"posta/" + path.name: path.read_bytes() for path in _sources()})


def build_editable(directory: str, settings: Any = None, metadata_directory: Any = None) -> str:
    """Write a wheel that refers to this folder."""
    return _write_wheel(directory, {"posta.pth": str(HERE).encode() + b"\n"})


def build_sdist(directory: str, settings: Any = None) -> str:
    """Write the source archive into a directory and return its name."""
    tests = [*sorted(HERE.glob("tests/*.py")), *sorted(HERE.glob("tests/transcripts/*.json"))]
    names = [path.relative_to(HERE).as_posix() for path in [*_sources(), *tests]]
    files = {name: (HERE / name).read_bytes() for name in [*names, "pyproject.toml", "README.md", "build_backend.py"]}
    files["PKG-INFO"] = _metadata()
    files["LICENSE"] = _license()
    name = _name() + ".tar.gz"
    with tarfile.open(pathlib.Path(directory, name), "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo("%s/%s" % (_name(), path))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return name


def _write_wheel(directory: str, files: Dict[str, bytes]) -> str:
    info = _name() + ".dist-info/"
    files = {
        **files,
        info + "METADATA": _metadata(),
        info + "WHEEL": ("Wheel-Version: 1.0\nGenerator: posta\nRoot-Is-Purelib: true\nTag: %s\n" % TAG).encode(),
        info + "LICENSE": _license(),
    }
    files[info + "RECORD"] = _record(files, info + "RECORD")
    name = "%s-%s.whl" % (_name(), TAG)
    with zipfile.ZipFile(pathlib.Path(directory, name), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return name


def _record(files: Dict[str, bytes], itself: str) -> bytes:
    """Return the list of files with their hashes."""
    lines: List[str] = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append("%s,sha256=%s,%d\n" % (path, digest, len(content)))
    return "".join([*lines, itself + ",,\n"]).encode()


def _sources() -> List[pathlib.Path]:
    return [path for path in sorted(HERE.glob("posta/*")) if path.suffix == ".py" or path.name == "py.typed"]


def _license() -> bytes:
    own = HERE / "LICENSE"
    return (own if own.exists() else LICENSE).read_bytes()


def _project() -> Dict[str, str]:
    """Return the strings of [project]. Python has a parser for TOML only since 3.11."""
    text = (HERE / "pyproject.toml").read_text(encoding="utf-8").split("[project]", 1)[1].split("\n[", 1)[0]
    return dict(re.findall(r'^([a-z-]+) = "(.*)"$', text, re.MULTILINE))


def _name() -> str:
    project = _project()
    return "%s-%s" % (project["name"], project["version"])


def _metadata() -> bytes:
    project = _project()
    fields = {
        "Metadata-Version": "2.1",
        "Name": project["name"],
        "Version": project["version"],
        "Summary": project["description"],
        "License": project["license"],
        "Requires-Python": project["requires-python"],
        "Description-Content-Type": "text/markdown",
    }
    head = "".join("%s: %s\n" % field for field in fields.items())
    return (head + "\n" + (HERE / project["readme"]).read_text(encoding="utf-8")).encode()
