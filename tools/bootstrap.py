#!/usr/bin/env python3
"""Set up `.venv` from nothing, then run a command in it.

    python3 tools/bootstrap.py                      set up, say what to do next
    python3 tools/bootstrap.py sendwave demo        set up, then run any command of the environment
    python3 tools/bootstrap.py bash                 a shell that has them all

Needs only Python's standard library and a Python of at least 3.11 somewhere on PATH. What gets installed is
constraints.txt, every file of it checked by hash, and this checkout in place. The second time takes no time: a stamp
in `.venv` says which constraints it was made from.

This file runs on old Pythons too (3.6 and later), to say what is missing instead of failing on syntax.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time

NEEDED = (3, 11)
NAMES = ("python3.13", "python3.12", "python3.11", "python3.14", "python3")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "bin")
STAMP = os.path.join(VENV, "set-up-from.sha256")


def main():
    """Return the exit status: 0 or the command's own; 2 when this machine lacks something, with the way to get it."""
    if sys.version_info[:2] < NEEDED:
        interpreter = newer_python()
        if interpreter is None:
            return explain(no_python())
        os.execv(interpreter, [interpreter, os.path.abspath(__file__), *sys.argv[1:]])
    if stamp() != stamped():
        problem = set_up()
        if problem:
            return explain(problem)
    if len(sys.argv) == 1:
        say("ready: .venv/bin/sendwave --help, or `make help`")
        return 0
    return run(sys.argv[1:])


def newer_python():
    """Path of a Python on PATH that is new enough, or None. Each is asked: a name may be a stub that only complains."""
    question = "import sys; sys.exit(sys.version_info[:2] < %r)" % (NEEDED,)
    for name in NAMES:
        path = shutil.which(name)
        if path and subprocess.call([path, "-c", question], stderr=subprocess.DEVNULL) == 0:
            return path
    return None


def no_python():
    """The message for a machine whose Pythons are all too old."""
    return (
        "sendwave needs Python {0}.{1} or later; this is {2}.{3} and PATH has no newer one.\n"
        "Debian 12 and Ubuntu 24.04 have it:  {4}apt-get install python3 python3-venv\n"
        "elsewhere:                           install it from python.org, pyenv or uv, then run this again"
    ).format(NEEDED[0], NEEDED[1], sys.version_info[0], sys.version_info[1], sudo())


def set_up():
    """Make or refresh `.venv`. Returns what is wrong, or None."""
    started = time.monotonic()
    if not usable(os.path.join(BIN, "python")):
        problem = missing_modules()
        if problem:
            return problem
        say("making .venv with Python {}.{}.{}".format(*sys.version_info[:3]))
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", VENV],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if made.returncode != 0:
            return "python -m venv failed:\n" + made.stdout.decode("utf-8", "replace")
    say("installing constraints.txt, checked by hash (once, a minute or so)")
    if pip("--require-hashes", "--only-binary", ":all:", "-r", os.path.join(ROOT, "constraints.txt")) != 0:
        return "pip could not install constraints.txt (see its message above); run the same command again to go on"
    if pip("--no-deps", "--no-build-isolation", "--editable", ROOT) != 0:
        return "pip could not install this checkout into .venv (see its message above)"
    with open(STAMP, "w") as file:
        file.write(stamp())
    say("set up in {:.0f} s".format(time.monotonic() - started))
    return None


def usable(python):
    """Whether `.venv` has a working, recent enough Python with pip; one moved from elsewhere or half made has not."""
    question = "import sys, pip; sys.exit(sys.version_info[:2] < {!r} or sys.prefix != {!r})".format(NEEDED, VENV)
    try:
        return subprocess.call([python, "-c", question], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def missing_modules():
    """The message for a Python whose venv or ensurepip was packaged apart (Debian, Ubuntu), or None."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as fault:
        version = "{}.{}".format(*sys.version_info[:2])
        return (
            "{} has no `{}` module, so no virtual environment can be made. Install it, then run this again:\n"
            "    {}apt-get install python{}-venv".format(sys.executable, fault.name, sudo(), version)
        )
    return None


def pip(*arguments):
    """Install into `.venv`, quietly; pip's errors go to the terminal."""
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    options.append("--no-compile")  # Python compiles what gets imported; doing all of it here takes 10 s more
    return subprocess.call([os.path.join(BIN, "python"), "-m", "pip", "install", *options, *arguments], cwd=ROOT)


def stamp():
    """What `.venv` should be made from: the constraints, the project file and the place."""
    digest = hashlib.sha256(ROOT.encode())
    for name in ("constraints.txt", "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def stamped():
    """What `.venv` was made from, or None. A `.venv` whose Python has gone counts as not made."""
    if not os.path.exists(os.path.join(BIN, "python")):
        return None
    try:
        with open(STAMP) as file:
            return file.read().strip()
    except OSError:
        return None


def run(command):
    """Replace this process by a command that finds `.venv/bin` first."""
    path = os.pathsep.join([BIN, os.environ.get("PATH", os.defpath)])
    os.environ.update(PATH=path, VIRTUAL_ENV=VENV)
    program = shutil.which(command[0], path=path)
    if program is None:
        return explain("{}: no such command in .venv/bin or on PATH".format(command[0]))
    sys.stdout.flush()
    return os.execv(program, [program, *command[1:]])


def sudo():
    """`sudo ` for everybody but root."""
    return "" if os.geteuid() == 0 else "sudo "


def say(text):
    """Progress, on stderr: stdout belongs to the command."""
    print("bootstrap: " + text, file=sys.stderr, flush=True)


def explain(problem):
    """Say what is wrong; 2, as for any bad input."""
    say(problem)
    return 2


if __name__ == "__main__":
    sys.exit(main())
