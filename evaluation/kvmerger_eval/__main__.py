"""The two steps after a run: python -m kvmerger_eval score OUT, python -m kvmerger_eval report OUT -o PAGE.

Each module has what is called here: score.run(folder) and report.run(folder, page).
"""

import argparse
import pathlib
import sys

from kvmerger_eval.results import EvaluationError


def parse(arguments):
    parser = argparse.ArgumentParser(prog="kvmerger eval", description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    score = steps.add_parser("score", help="write OUT/scores.json and print a table of tasks and methods")
    report = steps.add_parser("report", help="write one HTML page with tables and figures")
    report.add_argument("-o", "--output", type=pathlib.Path, help="the page to write (default: OUT/report.html)")
    for step in (score, report):
        step.add_argument("folder", metavar="OUT", type=pathlib.Path, help="the folder that `kvmerger eval` wrote")
    return parser.parse_args(arguments)


def run(options):
    if options.step == "score":
        from kvmerger_eval import score
        score.run(options.folder)
    else:
        from kvmerger_eval import report
        report.run(options.folder, options.output or options.folder / "report.html")


def main(arguments=None):
    options = parse(arguments)
    try:
        run(options)
    except (EvaluationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
