"""Puts libonnxruntime.so into a folder: fetch_onnxruntime.py VERSION FOLDER.

ONNX Runtime publishes no archive in a package registry, but its Python wheel holds the plain C library. The wheel is fetched with pip,
which checks its hash, and unpacked; nothing is installed.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile


def main(version: str, folder: pathlib.Path) -> None:
    """Fetches the wheel of `version` and writes its library to `folder`/libonnxruntime.so."""
    with tempfile.TemporaryDirectory() as scratch:
        # The library is the same in the wheel of every Python version; naming one makes this work with any.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        subprocess.run([*pip, "--only-binary=:all:", "--python-version=3.12", f"onnxruntime=={version}"], check=True)
        (wheel,) = pathlib.Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (library,) = (name for name in archive.namelist() if pathlib.PurePath(name).name.startswith("libonnxruntime.so"))
            folder.mkdir(parents=True, exist_ok=True)
            # Written beside and renamed, so that an interrupted fetch leaves no half library.
            partial = folder / "libonnxruntime.so.partial"
            with archive.open(library) as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target)
            partial.rename(folder / "libonnxruntime.so")
    print(f"ONNX Runtime {version} is in {folder}/")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
