"""Time zones of the image: takes the place of the `tzdata` package for `zoneinfo`.

Frozen as `zoneinfo.sandbox_zones`. The data itself (`zoneinfo._zones`, written by freeze.py) is loaded when a zone is first asked for.
"""

import io
import time
import zoneinfo
from zoneinfo import _common, _tzpath


def load_tzdata(key):
    """Returns a file with the compiled zone."""
    from zoneinfo._zones import ZONES

    data = ZONES.get(key)
    if data is None:
        raise _common.ZoneInfoNotFoundError(f"No time zone found with key {key}")
    return io.BytesIO(data)


def tzset():
    """Initializes, or reinitializes, the local time zone to the value stored in os.environ['TZ']."""
    # The C library follows TZ at every conversion (stubs.c); what is left are the module's names.
    year = (365 * 24 + 6) * 3600
    january = time.time() // year * year
    winter, summer = time.localtime(january), time.localtime(january + year // 2)
    if winter.tm_gmtoff > summer.tm_gmtoff:  # south of the equator
        winter, summer = summer, winter
    time.timezone, time.altzone = -winter.tm_gmtoff, -summer.tm_gmtoff
    time.daylight = int(time.timezone != time.altzone)
    time.tzname = (winter.tm_zone, summer.tm_zone)


def install():
    """Makes zoneinfo use the zones of the image (a zone below TZPATH, where a script sets one, still comes first)."""
    time.tzset = tzset
    of_files = _tzpath.available_timezones

    def available_timezones():
        """Returns a set containing all available time zones."""
        from zoneinfo._zones import ZONES

        return of_files() | (ZONES.keys() - {"posixrules"})

    # The C implementation looks the first one up at every call.
    _common.load_tzdata = load_tzdata
    _tzpath.available_timezones = zoneinfo.available_timezones = available_timezones
