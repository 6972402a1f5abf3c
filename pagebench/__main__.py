"""``python -m pagebench``."""

import sys

from pagebench.cli import main

sys.exit(main())
