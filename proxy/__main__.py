"""`python -m proxy` is `binlock-proxy`."""

import sys

from proxy.command_line import main

sys.exit(main())
