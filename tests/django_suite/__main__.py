"""usage: python -m tests.django_suite [--django 6.1|5.2] [--keep-plain] [CONFIGURATION | TEST LABEL]…

Without a configuration, those that matter. Without a label, all tests: about 11 minutes a configuration, and as long for
plain Django.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from tests.django_suite.suite import (
    CONFIGURATIONS,
    DEFAULTS,
    PLAIN,
    PYTHONS,
    Outcomes,
    complaints,
    differences,
    expected_differences,
    running,
)

OUTPUT = Path(".test") / "django-suite"


def told(name: str, outcomes: Outcomes, seconds: float) -> None:
    kinds = Counter(outcome.split(":")[0] for outcome in outcomes.values())
    print(
        f"{name}: {len(outcomes):,} tests in {seconds:.0f} s:", *(f"{n:,} {kind};" for kind, n in kinds.most_common())
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.django_suite", description=__doc__)
    parser.add_argument("--django", choices=PYTHONS, default="6.1")
    parser.add_argument("--keep-plain", action="store_true", help="take plain Django's outcomes from the last run")
    parser.add_argument("chosen", nargs="*", metavar="CONFIGURATION | TEST LABEL", help=", ".join(CONFIGURATIONS))
    options = parser.parse_args()
    names = [name for name in options.chosen if name in CONFIGURATIONS] or DEFAULTS
    labels = [label for label in options.chosen if label not in CONFIGURATIONS]
    wrong = 0
    with running(options.django, OUTPUT) as suite:
        runs: dict[str, Outcomes] = {}
        for name in (PLAIN, *names):
            before = OUTPUT / f"{options.django}-{name}.json"
            since = time.monotonic()
            if name == PLAIN and options.keep_plain and before.exists():
                runs[name] = json.loads(before.read_text())
            else:
                runs[name] = suite.run(name, labels)
            told(f"Django {options.django}, {name}", runs[name], time.monotonic() - since)
            if name == PLAIN:
                continue
            expected = expected_differences(options.django, name)
            complaining = complaints(runs[PLAIN], runs[name], expected, whole=not labels)
            print(
                f"  {len(differences(runs[PLAIN], runs[name]))} different from plain Django, {len(complaining)} complaints"
            )
            for line in complaining:
                print("  ", line)
            wrong += len(complaining)
    return 1 if wrong else 0


sys.exit(main())
