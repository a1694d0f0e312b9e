"""`python -m hrm_gym`: the same as the command `hrm-gym`."""

import sys

from hrm_gym.scripts.main import main

if __name__ == "__main__":
    sys.exit(main())
