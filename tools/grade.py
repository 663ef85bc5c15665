"""Grades a folder of submissions: marks per question as CSV, and for each student a page of feedback.

python tools/grade.py SUBMISSIONS [--out DIR] [--seed N]     grade what is new or changed; write marks and feedback
python tools/grade.py SUBMISSIONS --again                    grade everything again
python tools/grade.py --gradescope FILE results.json         grade one notebook, for an autograder of Gradescope's kind

Answers run behind bubblewrap where that works (tools/grading/wall.py), the tests in another process. What is handed in
is never written to. What a person gave for free answers is read from DIR/manual.json (tools/gradebook.py writes it).
"""

import sys

if __name__ == "__main__":  # each process that is started imports this file again, so that it holds nothing
    from grading.grade import main

    sys.exit(main())
