# SPDX-License-Identifier: Apache-2.0
"""A file's name says what is in it, so it occurs once."""

import subprocess
from collections import Counter

from places import ROOT

# A script starts the command of the same name in commands/, and reports have Python and JavaScript of one subject.
SAME_NAME_ON_PURPOSE = {path.stem for path in (ROOT / "scripts").glob("*.py")}


def tracked(*folders):
    done = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return [str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.*")]
    return done.stdout.splitlines()


def test_no_file_name_occurs_twice():
    paths = [ROOT / name for name in tracked("src", "scripts") if name.endswith((".py", ".js"))]
    names = Counter(path.name for path in paths if path.name != "__init__.py")
    twice = {name for name, count in names.items() if count > 1}
    assert {name.removesuffix(".py") for name in twice} <= SAME_NAME_ON_PURPOSE
    for name in twice:
        rooms = sorted(path.parent.name for path in paths if path.name == name)
        assert rooms == ["commands", "scripts"], name
