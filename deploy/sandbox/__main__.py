"""`python -m deploy.sandbox`."""

import sys

from .cli import main

sys.exit(main())
