"""Builds the Python runner: target/wasmill/python-runner.wasm. A second run with nothing changed does nothing.

    python udf-sdk/python/build.py [--out FILE] [--embed TOOL]   the runner; TOOL is a built `wasmill-embed`
    python udf-sdk/python/build.py --native FOLDER               the codec for the running CPython (tests)

Wants the packages of requirements-build.txt in the Python that runs it, and cargo for the tool `wasmill-embed`. CPython comes with
componentize-py, the C compiler with ziglang, so no headers and no compiler of the machine are used.
"""

import argparse
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RUNNER = TARGET / "wasmill" / "python-runner.wasm"
WORK = TARGET / "wasmill" / "python-runner"
EXTENSION = "_wasmill_codec.cpython-314-wasm32-wasi.so"
TOOLS = ("componentize-py", "ziglang", "tzdata")
PACKAGE_WIT = ROOT / "wit" / "udf.wit"
# The codec is optimised as a whole: its files call each other for every value.
COMPILE = ["-target", "wasm32-wasi", "-O3", "-flto", "-fPIC", "-fvisibility=hidden", "-std=c11", "-Wall", "-Wextra", "-Werror"]
LINK = ["--lto-O3", "--strip-debug", "-shared", "--experimental-pic", "--allow-undefined", "--export=PyInit__wasmill_codec"]


class BuildError(Exception):
    """What is missing or failed, and what to do."""


def run(*command, cwd=None):
    """Runs a tool; its output is shown if it fails."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise BuildError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def versions():
    """The tools that the result depends on."""
    try:
        return [f"{name}=={importlib.metadata.version(name)}" for name in TOOLS]
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(f"the package {error.name} is missing: {sys.executable} -m pip install -r {HERE / 'requirements-build.txt'}") from None


def inputs():
    """All files that the runner is made of."""
    folders = [HERE / "codec", HERE / "runner", HERE / "src", HERE / "wit", HERE / "embed"]
    files = [p for folder in folders for p in folder.rglob("*") if p.suffix in (".c", ".h", ".py", ".wit", ".rs", ".toml") and p.is_file()]
    return sorted(files) + [PACKAGE_WIT, HERE / "build.py"]


def fingerprint():
    """Changes when the runner must be built again."""
    digest = hashlib.sha256("\n".join(versions()).encode())
    for path in inputs():
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def wit_folder():
    """The worlds of wit/ with the contract as their dependency."""
    folder = WORK / "wit"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "deps" / "udf").mkdir(parents=True)
    shutil.copy(HERE / "wit" / "runner.wit", folder)
    (folder / "deps" / "udf" / "udf.wit").write_bytes(PACKAGE_WIT.read_bytes())
    return folder


def zig(*arguments):
    """Runs the compiler of the package ziglang."""
    run(sys.executable, "-m", "ziglang", *arguments)


def embed_tool(given):
    """The tool that marks the codec: the one given, or built now."""
    if given:
        return Path(given).resolve()
    run("cargo", "build", "--release", "--quiet", "-p", "wasmill-embed", cwd=ROOT)
    return TARGET / "release" / ("wasmill-embed" + sysconfig.get_config_var("EXE"))


def extension(wit, embed):
    """Compiles, links and marks the codec; returns the folder it lies in."""
    objects = WORK / "objects"
    shutil.rmtree(objects, ignore_errors=True)
    objects.mkdir(parents=True)
    made = []
    for source in sorted((HERE / "codec").glob("*.c")):
        made.append(objects / (source.stem + ".o"))
        zig("cc", *COMPILE, "-c", source, "-o", made[-1])
    bare = objects / "bare.so"
    zig("wasm-ld", *LINK, *made, "-o", bare)
    folder = WORK / "extension"
    folder.mkdir(exist_ok=True)
    run(embed_tool(embed), wit, "codec", bare, folder / EXTENSION)
    return folder


def site_packages():
    """A folder with tzdata alone: componentize-py packs whole search paths."""
    import tzdata

    folder = WORK / "packages"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(Path(tzdata.__file__).parent, folder / "tzdata", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def clean_copy(name):
    """A folder without __pycache__, for the same reason."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / name, folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


def build(out=RUNNER, embed=None):
    """Builds the runner if anything changed."""
    out = Path(out).resolve()
    stamp, wanted = WORK / "fingerprint", f"{fingerprint()} {out}"
    if out.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    WORK.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    print(f"building {out}", file=sys.stderr)
    wit = wit_folder()
    paths = [clean_copy("runner"), clean_copy("src"), extension(wit, embed), site_packages()]
    search = [word for path in paths for word in ("-p", path)]
    fresh = WORK / "fresh.wasm"
    script = "import componentize_py; raise SystemExit(componentize_py.script())"
    run(sys.executable, "-c", script, "-d", wit, "-w", "runner", "componentize", "wasmill_runner", *search, "-o", fresh)
    shutil.move(fresh, out)
    stamp.write_text(wanted)


def build_native(folder):
    """Builds the codec for the running CPython with the machine's C compiler."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    include = sysconfig.get_path("include")
    if not (Path(include) / "Python.h").exists():
        raise BuildError(f"{include}/Python.h is missing: install the headers of this Python")
    result = folder / ("_wasmill_codec" + sysconfig.get_config_var("EXT_SUFFIX"))
    sources = sorted((HERE / "codec").glob("*.c"))
    newest = max(p.stat().st_mtime for p in (HERE / "codec").iterdir())
    if not result.exists() or result.stat().st_mtime < newest:
        flags = ["-shared", "-fPIC", "-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Wno-missing-field-initializers", f"-I{include}"]
        run(os.environ.get("CC", "cc"), *flags, *sources, "-o", result)
    return result


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description="Builds the Python runner, if anything changed.")
    parser.add_argument("--out", default=RUNNER, help="where the runner goes (default: target/wasmill/python-runner.wasm)")
    parser.add_argument("--embed", help="a built wasmill-embed (default: cargo builds it)")
    parser.add_argument("--native", metavar="FOLDER", help="build the codec for the running CPython instead")
    options = parser.parse_args()
    try:
        if options.native:
            print(build_native(options.native))
        else:
            build(options.out, options.embed)
    except BuildError as error:
        sys.exit(f"build.py: {error}")


if __name__ == "__main__":
    main()
