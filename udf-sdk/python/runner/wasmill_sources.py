"""User files, held in memory: the program, the modules that it imports, and their data."""

import functools
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.resources.abc
import importlib.util
import io
import linecache
import os
import random
import re
import sys
import zipfile

import _wasmill_codec as codec

PRELOADED = frozenset(sys.modules)


class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds, compiles and runs modules among the files. Paths are those given, so that tracebacks show what the user knows."""

    def __init__(self, files):
        self.program = files[0].path.replace("\\", "/")
        self.root = os.path.dirname(self.program)
        self.by_name = {}  # path as an import sees it -> (path as given, bytes)
        for file in files:
            given = file.path.replace("\\", "/")
            self.by_name[self._inside(given)] = (given, bytes(file.content))
            if given.endswith(".py"):
                lines = io.BytesIO(file.content).read().decode("utf-8", "replace").splitlines(True)
                linecache.cache[given] = (len(file.content), None, lines, given)

    def _inside(self, path):
        return os.path.relpath(path, self.root) if self.root and path.startswith(self.root + "/") else path

    def paths(self):
        """The paths of all files, as given."""
        return {given for given, _ in self.by_name.values()}

    # ---- finding
    def find_spec(self, name, path=None, target=None):
        """Where a module lies: among the files, or it is `random`, whose use must be known."""
        if name == "random":
            _use_random()
            return importlib.machinery.ModuleSpec(name, _Ready(random))
        located = self._locate(name)
        if located is None:
            return None
        inside, package = located
        spec = importlib.machinery.ModuleSpec(name, self, origin=self.by_name[inside][0], is_package=package) if inside in self.by_name else None
        if spec is None:  # a folder without __init__.py
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [inside]
            return spec
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(self.by_name[inside][0]) or "."]
        return spec

    def _locate(self, name):
        base = name.replace(".", "/")
        if f"{base}/__init__.py" in self.by_name:
            return f"{base}/__init__.py", True
        if f"{base}.py" in self.by_name:
            return f"{base}.py", False
        if any(inside.startswith(base + "/") and inside.endswith(".py") for inside in self.by_name):
            return base, True
        return None

    # ---- loading
    def is_package(self, fullname):
        """Is the module a package?"""
        located = self._locate(fullname)
        if located is None:
            raise ImportError(f"no module {fullname!r} among the files")
        return located[1]

    def get_source(self, fullname):
        """The text of a module."""
        located = self._locate(fullname)
        if located is None or located[0] not in self.by_name:
            raise ImportError(f"no module {fullname!r} among the files")
        return importlib.util.decode_source(self.by_name[located[0]][1])

    def get_code(self, fullname):
        """The module, compiled under the path that was given for it."""
        given, content = self.by_name[self._locate(fullname)[0]]
        return compile(content, given, "exec", dont_inherit=True)

    def get_filename(self, fullname):
        """The path of a module, as given."""
        return self.by_name[self._locate(fullname)[0]][0]

    def exec_module(self, module):
        """Runs a module."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_data(self, path):
        """The bytes of any file (PEP 302)."""
        path = os.path.normpath(path.replace("\\", "/"))
        for inside in (self._inside(path), path):
            if inside in self.by_name:
                return self.by_name[inside][1]
        raise OSError(f"no file {path!r} travels with the UDF")

    # ---- what packages ask about themselves
    @functools.cached_property
    def archive(self):
        """All files as a zip in memory, for the parts of the standard library that can read one."""
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w") as archive:
            for inside, (_, content) in self.by_name.items():
                archive.writestr(inside, content)
        return zipfile.ZipFile(held)

    def get_resource_reader(self, fullname):
        """The folder of a package, for `importlib.resources`."""
        return _Folder(zipfile.Path(self.archive, fullname.replace(".", "/") + "/"))

    def find_distributions(self, context):
        """The packages that pip installed, for `importlib.metadata`."""
        plain = lambda name: re.sub(r"[-_.]+", "-", name).lower()
        for folder in sorted({inside.split("/")[0] for inside in self.by_name if inside.split("/")[0].endswith(".dist-info")}):
            if context.name is None or plain(folder.split("-")[0]) == plain(context.name):
                yield importlib.metadata.PathDistribution(zipfile.Path(self.archive, folder + "/"))

    def run_program(self):
        """Runs the first file and returns its module."""
        stem = os.path.splitext(os.path.basename(self.program))[0]
        name = stem if stem.isidentifier() and stem not in PRELOADED and stem not in sys.stdlib_module_names else "wasmill_program"
        inside = self._inside(self.program)
        spec = importlib.machinery.ModuleSpec(name, self, origin=self.program)
        spec.has_location = True
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        code = compile(self.by_name[inside][1], self.program, "exec", dont_inherit=True)
        exec(code, module.__dict__)
        return module


def _use_random():
    """From now on each bundle seeds `random`: the state in the snapshot is the same in all instances."""
    _seed_random()
    codec.at_begin(_seed_random)


def _seed_random(_seed=None):
    """WASI's random bytes come from the bundle's seed too, unless the job grants real ones: then `random` is real as well."""
    random.seed(os.urandom(16))


class _Folder(importlib.resources.abc.TraversableResources):
    """Where a package lies."""

    def __init__(self, root):
        self.root = root

    def files(self):
        """The folder."""
        return self.root


class _Ready(importlib.abc.Loader):
    """A loader for a module that is already there."""

    def __init__(self, module):
        self.module = module

    def create_module(self, spec):
        """The module itself."""
        return self.module

    def exec_module(self, module):
        """Nothing is left to do."""


def install(files):
    """Makes the files importable, before all else. An import of `random` is noticed: then each bundle seeds it."""
    sources = Sources(files)
    sys.meta_path.insert(0, sources)
    sys.modules.pop("random", None)
    return sources
