"""`python -m audit` is `binlock-audit`."""

import sys

from audit.command_line import main

sys.exit(main())
