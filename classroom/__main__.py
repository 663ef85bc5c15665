"""The grader's command line: `python -m classroom grade ...` and `python -m classroom gradebook ...`."""

import sys

if __name__ == "__main__":  # each process that is started imports this file again, so that it holds nothing
    from classroom.commands import main

    sys.exit(main(sys.argv[1:]))
