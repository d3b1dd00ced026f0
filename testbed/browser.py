"""Headless Chromium from the bundle of that name, with fonts of its own, driven through Playwright.

Chromium starts itself again for each of its processes, so it cannot run through the bundle's dynamic loader. It runs
through the machine's, with the bundle's libraries but for the C library's own, which must be the loader's.
"""

import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from testbed.fetch import Bundle, bundle
from testbed.programs import Place

__all__ = ["running_browser"]

# What Debian's libc6 has; these come with the loader.
_OF_THE_LOADER = re.compile(
    r"(ld-linux.*|lib(c|m|mvec|dl|rt|util|anl|pthread|resolv|nsl|nss_.*|BrokenLocale|thread_db|c_malloc_debug|memusage"
    r"|pcprofile))\.so.*"
)
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <cachedir>{cache}</cachedir>
  <alias><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>ui-monospace</family><prefer><family>JetBrains Mono</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>JetBrains Mono</family></prefer></alias>
</fontconfig>
"""
# The sandbox needs more than a container has, and the pages are our own.
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-zygote", "--font-render-hinting=none"]


@contextlib.contextmanager
def running_browser(place: Place | None = None) -> Iterator[Browser]:
    """A browser, gone on exit with all that it stored.

    Args:
        place: a host whose network it is to see; None for the current network namespace.

    Raises:
        FetchError: Chromium cannot be had.
    """
    chromium = bundle("chromium")
    with tempfile.TemporaryDirectory(prefix="binlock-browser-") as name:
        folder = Path(name)
        executable = _executable(chromium, folder, place)
        environment: dict[str, str | float | bool] = {**os.environ, "HOME": name, "TMPDIR": name}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=_OPTIONS, env=environment)
            with browser:
                yield browser


def _executable(chromium: Bundle, folder: Path, place: Place | None) -> Path:
    libraries = folder / "libraries"
    libraries.mkdir()
    for path in chromium.libraries():
        if not _OF_THE_LOADER.fullmatch(path.name) and not (libraries / path.name).exists():
            (libraries / path.name).symlink_to(path)
    fonts = folder / "fonts.conf"
    fonts.write_text(_FONTS.format(fonts=chromium.path("usr/share/fonts"), cache=folder / "fonts"))
    command = [str(chromium.path("usr/lib/chromium/chromium-headless-shell"))]
    if place is not None:
        command = place.command(command)
    wrapper = folder / "chromium"
    wrapper.write_text(
        "#!/bin/sh\n"
        f"LD_LIBRARY_PATH={shlex.quote(str(libraries))} FONTCONFIG_FILE={shlex.quote(str(fonts))} "
        f'exec {shlex.join(command)} "$@"\n'
    )
    wrapper.chmod(0o700)
    return wrapper
