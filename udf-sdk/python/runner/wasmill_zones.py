"""Time zones from memory. The files of the package tzdata are read while the runner is built; later there is no file system."""

import os
import zoneinfo
import zoneinfo._common

import tzdata

ZONES = {}


def _read(folder, prefix):
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            _read(path, f"{prefix}{name}/")
        elif not name.endswith((".py", ".pyc", ".tab", ".zi", ".list")) and name != "zones":
            with open(path, "rb") as file:
                content = file.read()
            if content.startswith(b"TZif"):
                ZONES[prefix + name] = content


_read(os.path.join(os.path.dirname(tzdata.__file__), "zoneinfo"), "")


def _load(key):
    import io

    if key not in ZONES:
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")
    return io.BytesIO(ZONES[key])


def _available():
    return set(ZONES)


def install():
    """Makes `zoneinfo` read from here."""
    zoneinfo._common.load_tzdata = _load
    zoneinfo.available_timezones = _available
    zoneinfo.reset_tzpath(to=())
