"""Puts libonnxruntime.so into a folder: fetch_onnxruntime.py VERSION FOLDER [gpu].

ONNX Runtime publishes no archive in a package registry, but its Python wheel holds the plain C library. The wheel is fetched with pip,
which checks its hash, and unpacked; nothing is installed. With "gpu" it is the wheel with the CUDA provider, and NVIDIA's libraries
come with it, out of the wheels that it names: some 2 GB.
"""

import email.parser
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

LIBRARY = "libonnxruntime.so"
# Beside the library itself: what it loads the providers by, and the one for CUDA.
PROVIDERS = ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"]
# The wheel's extras that name NVIDIA's packages.
EXTRAS = ["cuda", "cudnn"]


def download(scratch: pathlib.Path, requirements: list[str], *options: str) -> list[pathlib.Path]:
    """Fetches the wheels of `requirements`."""
    scratch.mkdir()
    # The libraries are the same in the wheels of every Python version; naming one makes this work with any.
    pip = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(scratch)]
    subprocess.run([*pip, "--only-binary=:all:", "--python-version=3.12", *requirements], check=True)
    return sorted(scratch.glob("*.whl"))


def unpack(archive: zipfile.ZipFile, member: str, target: pathlib.Path) -> None:
    """Writes a member of a wheel to `target`; beside it and renamed, so that an interrupted fetch leaves no half library."""
    partial = target.with_name(target.name + ".partial")
    with archive.open(member) as source, partial.open("wb") as out:
        shutil.copyfileobj(source, out)
    partial.rename(target)


def members(archive: zipfile.ZipFile, start: str) -> list[str]:
    """The members whose file names start so."""
    return [member for member in archive.namelist() if pathlib.PurePath(member).name.startswith(start)]


def nvidia(archive: zipfile.ZipFile) -> list[str]:
    """NVIDIA's packages that a wheel asks for in its extras."""
    (metadata,) = (member for member in archive.namelist() if member.endswith(".dist-info/METADATA"))
    stated = email.parser.Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist", [])
    wanted = [line.split(";") for line in stated if ";" in line]
    marked = {f'extra == "{extra}"' for extra in EXTRAS}
    return [package.strip() for package, marker in wanted if marker.strip().replace("'", '"') in marked]


def fetch_cuda(archive: zipfile.ZipFile, folder: pathlib.Path, scratch: pathlib.Path) -> None:
    """Writes NVIDIA's libraries and the providers of the wheel `archive` into `folder`, where the server loads them from."""
    # With what those need in turn: cuDNN's has cuBLAS.
    for wheel in download(scratch, nvidia(archive)):
        with zipfile.ZipFile(wheel) as libraries:
            for member in members(libraries, "lib"):
                path = pathlib.PurePath(member)
                if path.parts[0] == "nvidia" and ".so." in path.name:
                    unpack(libraries, member, folder / path.name)
        # Gigabytes, which need not be there twice.
        wheel.unlink()
    for provider in PROVIDERS:
        (member,) = members(archive, provider)
        unpack(archive, member, folder / provider)


def main(version: str, folder: pathlib.Path, gpu: bool) -> None:
    """Fetches the wheel of `version` and writes its library to `folder`/libonnxruntime.so, and with `gpu` what it needs for CUDA."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = pathlib.Path(scratch)
        package = "onnxruntime-gpu" if gpu else "onnxruntime"
        (wheel,) = download(place / "onnxruntime", [f"{package}=={version}"], "--no-deps")
        with zipfile.ZipFile(wheel) as archive:
            if gpu:
                fetch_cuda(archive, folder, place / "nvidia")
            # Last: it is what tells that all is there.
            (member,) = members(archive, LIBRARY)
            unpack(archive, member, folder / LIBRARY)
    print(f"ONNX Runtime {version}{' with CUDA' if gpu else ''} is in {folder}/")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:] == ["gpu"])
