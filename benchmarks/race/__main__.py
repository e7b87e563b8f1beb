"""`make race`: a new project of the template, the race in it, and what came out: the samples, the table, the figure."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.publish import RESULTS
from benchmarks.race import report
from tests.baking import bake

HERE = Path(__file__).resolve().parent


def run(*command: str | Path, cwd: Path, **env: str) -> None:
    """In a session of its own: Ctrl-C reaches this program only, which passes it on once, and waits until the databases
    are stopped.
    """
    process = subprocess.Popen(command, cwd=cwd, env=os.environ | env, start_new_session=True)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    if status:
        sys.exit(f"{' '.join(map(str, command))} has failed. With --keep DIRECTORY its logs stay.")


def race(project: Path, scratch: Path, *, rounds: int, seconds: float) -> str:
    """
    :param project: generated with replicas=2, and its environment made
    :returns: the samples, lines of JSON; the first is about the machine
    """
    python, competitors, samples = project / ".venv" / "bin" / "python", scratch / "others", scratch / "race.jsonl"
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--target", competitors)
    run(python, *install, "--requirement", HERE / "requirements.txt", cwd=project)
    path = f"{project}{os.pathsep}{competitors}"
    run(python, HERE / "run.py", samples, str(rounds), str(seconds), sys.executable, cwd=project, PYTHONPATH=path)
    return samples.read_text()


def main() -> None:
    # SIGTERM as Ctrl-C, and Ctrl-C also where a shell's background job began with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each phase")
    parser.add_argument("--quick", action="store_true", help="a short round; the table is printed, nothing is kept")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="leave the project, its data and its logs there")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 3.0
    with ExitStack() as stack:
        scratch = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="race-")))
        project = bake(scratch.resolve(), project_name="Race", project_slug="race_site", replicas="2")
        run("make", "--silent", ".venv/installed", f"PYTHON={sys.executable}", cwd=project)
        text = race(project, scratch.resolve(), rounds=options.rounds, seconds=options.seconds)
    if options.quick:
        print(report.markdown(report.Results(text)))
    else:
        report.write(text, RESULTS, HERE.parent / "README.md")


if __name__ == "__main__":
    main()
