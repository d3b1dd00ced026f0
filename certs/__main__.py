"""`python -m certs` is `binlock-certs`."""

import sys

from certs.command_line import main

sys.exit(main())
