# SPDX-License-Identifier: Apache-2.0
"""The texts that users see: each change of one shows in tests/data/messages.txt, and odd phrases do not come back."""

import ast
import difflib
import re

import pytest

import messages
from places import ROOT

# A phrase, a text with it, and what an engineer would write.
REJECTED = [
    (r"cannot be[:;,.]", "workload.skip cannot be: no tokenizer", "cannot be used, is not allowed"),
    (r"\bcan be;|\bthat cannot be\b(?! \w+)", "no job can be; nothing was run", "no valid jobs, invalid"),
    (r"\bgo(es)? on\b|\bgoing on with\b", "interrupted; go on with --multirun", "resume, continue"),
    (r"(?<![Tt]here )\bis no (?!longer\b)\w+", "points.csv is no CSV file", "is not a …"),
    (r"(?<![Tt]here )\bare no (?!longer\b)\w+", "33 tokens are no whole pages", "are not …"),
    (r"\bnearly were\b", "options that nearly were", "near misses"),
    (r"\bmust be given\b", "model.name must be given", "is required"),
    (r"\banew\b", "Start the sweep anew.", "again"),
    (r"\b(given|set) besides\b", "device is set besides", "as well, also"),
    (r"\ball \w+ alike\b|\bare alike\b", "the string holds for all layers alike", "all layers, the same"),
    (r"\bforetells?\b|\bbears?\b", "which layers bear BFP4", "predicts, tolerates, carries"),
]


@pytest.fixture(scope="module")
def found():
    return messages.messages()


def test_every_message_is_in_the_list(found):
    listed = messages.TARGET.read_text(encoding="utf-8").splitlines()
    changed = [line for line in difflib.unified_diff(listed, found, lineterm="", n=0) if line[0] in "+-"][2:]
    assert found == listed, "\n".join(["run python tests/messages.py --write if this is how it should read:", *changed])


@pytest.mark.parametrize(("phrase", "example", "instead"), REJECTED)
def test_a_rejected_phrase_does_not_come_back(phrase, example, instead, found):
    assert re.search(phrase, example)
    generated = [(ROOT / page).read_text(encoding="utf-8") for page in ("docs/reference.md", "docs/findings.md")]
    lines = [*found, *"\n".join(generated).splitlines()]
    odd = [line for line in lines if re.search(phrase, line)]
    assert odd == [], f"write instead: {instead}"


def test_texts_are_found_wherever_they_stand():
    source = """
def tell(count):
    '''No message.'''
    raise ConfigError(f"only {count} rows" + (" or so are left" if count else ""), f"See {page('the whole list')}.")
parser.add_argument("--top", help="rows")
"""
    found = [text for text, _ in messages._strings(ast.parse(source))]
    assert "only {count} rows{ or so are left|}" in found
    assert "See {page}." in found
    assert "the whole list" in found
    assert ("rows", True) in list(messages._strings(ast.parse(source)))
    assert not any("No message" in text for text in found)


def test_strings_of_scripts_are_found_and_classes_are_not():
    source = r"""
// "a comment is no string"
make("p", { class: "faint small" }, "a text of the page", `${jobs.length} of ${plural(n, `${all} jobs`)} shown`);
const quoted = (value) => (/[",\n]/.test(value) ? `"${value}"` : "plain text");
"""
    found = messages.javascript_strings(source)
    assert {"a text of the page", "{jobs.length} of {plural} shown", "plain text"} <= set(found)
    assert not {"faint small", "a comment is no string"} & set(found)
