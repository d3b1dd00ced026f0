"""`python -m monitor` is `binlock-monitor`."""

import sys

from monitor.command_line import main

if __name__ == "__main__":
    sys.exit(main())
