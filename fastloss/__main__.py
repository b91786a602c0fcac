"""Run the command line as ``python -m fastloss``."""

import sys

from fastloss.cli import main

if __name__ == "__main__":
    sys.exit(main())
