"""``python -m lstm_xp`` is the command line ``lstm-xp``."""

import sys

from lstm_xp._cli import main

if __name__ == "__main__":
    sys.exit(main())
