"""Run the same tests round after round, until a round fails; then say how many rounds, tests and kills it was.

python tools/rounds.py ROUNDS FROM PYTEST-OPTION…

Each round is told its number, SENDWAVE_TEST_ROUND, from which tests draw their chances: a round that failed is run
again by its number. Kills are what tests record as their property `kills`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

VARIABLE: Final = "SENDWAVE_TEST_ROUND"


def counted(report: Path) -> Counter[str]:
    """Tests that ran and kills they record, of a JUnit report; nothing where pytest wrote none."""
    if not report.exists():
        return Counter()
    cases = list(ET.parse(report).iter("testcase"))
    told = ET.parse(report).iterfind(".//property[@name='kills']")
    kills = sum(int(each.get("value", "0")) for each in told)
    return Counter(tests=sum(case.find("skipped") is None for case in cases), kills=kills)


def rounds(numbers: range, options: list[str]) -> int:
    """The exit code of the first round that fails, 0 when none does."""
    total: Counter[str] = Counter()
    code = 0
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        for number in numbers:
            report.unlink(missing_ok=True)
            print(f"round {number} ({VARIABLE}={number})", flush=True)
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                f"--junitxml={report}",
                "-o",
                "junit_family=xunit1",
                *options,
            ]
            code = subprocess.call(command, env={**os.environ, VARIABLE: str(number)})
            found = counted(report)
            total += found
            if code == 0 and not found["tests"]:
                code = 1
                print("no test ran")
            if code:
                print(f"round {number} FAILED; it alone, again: ROUNDS=1 FROM={number}")
                break
            total["rounds"] += 1
    print(f"{total['rounds']} of {len(numbers)} rounds passed: {total['tests']} tests, {total['kills']} kills")
    return code


if __name__ == "__main__":
    first = int(sys.argv[2])
    raise SystemExit(rounds(range(first, first + int(sys.argv[1])), sys.argv[3:]))
