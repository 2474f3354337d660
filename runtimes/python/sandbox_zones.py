"""Time zones of the image: takes the place of the `tzdata` package for `zoneinfo`.

Frozen as `zoneinfo.sandbox_zones`. The data itself (`zoneinfo._zones`, written by freeze.py) is loaded when a zone is first asked for.
"""

import io

from zoneinfo import _common, _tzpath
import zoneinfo


def load_tzdata(key):
    """Returns a file with the compiled zone."""
    from zoneinfo._zones import ZONES

    data = ZONES.get(key)
    if data is None:
        raise _common.ZoneInfoNotFoundError(f"No time zone found with key {key}")
    return io.BytesIO(data)


def install():
    """Makes zoneinfo use the zones of the image (a zone below TZPATH, where a script sets one, still comes first)."""
    of_files = _tzpath.available_timezones

    def available_timezones():
        """Returns a set containing all available time zones."""
        from zoneinfo._zones import ZONES

        return of_files() | (ZONES.keys() - {"posixrules"})

    # The C implementation looks the first one up at every call.
    _common.load_tzdata = load_tzdata
    _tzpath.available_timezones = zoneinfo.available_timezones = available_timezones
