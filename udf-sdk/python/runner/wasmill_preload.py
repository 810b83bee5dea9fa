"""What a UDF may import. componentize-py takes a snapshot of the interpreter: a module that is not imported here does not exist later."""

import importlib
import pkgutil

MODULES = """
__future__ _strptime abc argparse array ast asyncio base64 binascii bisect builtins calendar cmath codecs collections collections.abc colorsys
configparser contextlib contextvars copy copyreg csv dataclasses datetime decimal difflib dis email email.message email.parser email.utils
encodings.ascii encodings.base64_codec encodings.cp437 encodings.cp1250 encodings.cp1251 encodings.cp1252 encodings.hex_codec encodings.iso8859_1
encodings.iso8859_15 encodings.iso8859_2 encodings.raw_unicode_escape encodings.unicode_escape encodings.utf_7 encodings.utf_16_be encodings.utf_16_le
encodings.idna encodings.latin_1 encodings.punycode encodings.utf_16 encodings.utf_32 encodings.utf_32_be encodings.utf_32_le encodings.utf_8
encodings.utf_8_sig enum errno fnmatch fractions functools gc getpass gettext glob graphlib gzip hashlib heapq hmac html html.entities html.parser
http http.client importlib.abc importlib.machinery importlib.metadata importlib.resources importlib.util inspect io ipaddress
itertools json
json.decoder json.encoder keyword linecache locale logging logging.handlers math mimetypes numbers opcode operator os os.path pathlib pickle
pickletools pkgutil platform plistlib posixpath pprint queue quopri random re reprlib sched secrets select selectors shlex shutil signal site
socket sqlite3 stat statistics string stringprep struct sys sysconfig tarfile tempfile textwrap threading time timeit token tokenize tomllib
traceback types typing unicodedata unittest unittest.mock urllib urllib.error urllib.parse urllib.request uuid warnings weakref
xml.dom.minidom xml.etree.ElementTree xml.sax zipfile zipimport zlib zoneinfo
concurrent.futures
wasmill wasmill.common wasmill.common.typeinfo wasmill.common.types wasmill.convert wasmill.datastream wasmill.datastream.functions
wasmill.datastream.state wasmill.table wasmill.table.functions wasmill.table.types wasmill.table.udf wasmill.testing
""".split()

# What these import of their own only when it is needed must be there by then, too.
WHOLE = "asyncio collections concurrent.futures email html http importlib.metadata importlib.resources json logging unittest urllib xml zoneinfo".split()

ABSENT = []


def _load(name):
    try:
        return importlib.import_module(name)
    except ImportError:  # not in this build of CPython; importing it later says so
        ABSENT.append(name)


def _load_all(package):
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if found.name.split(".")[-1] in ("__main__", "tests", "windows_events", "windows_utils", "simple"):
            continue
        module = _load(found.name)
        if found.ispkg and module is not None:
            _load_all(module)


for _name in MODULES:
    _load(_name)
for _name in WHOLE:
    _load_all(importlib.import_module(_name))
