# SPDX-License-Identifier: Apache-2.0
"""Makes places.jsonl: which continent and which country a city is in, from the IANA time zone database (public domain).

    python tests/data/lm_eval/make_places.py [FOLDER]

FOLDER has zone.tab and iso3166.tab (/usr/share/zoneinfo; release 2025b made the file here). Every place of zone.tab in
the areas Africa, America, Asia and Europe is asked about twice. The wrong answers to the country are the three that
follow in the alphabet in the same area, after the last the first. Left out are countries whose name in iso3166.tab is
explained in parentheses, and places whose name is in that of their country (Singapore).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

AREAS = ("Africa", "America", "Asia", "Europe")
OWN = Path(__file__).with_name("places.jsonl")


def table(path: Path) -> list[list[str]]:
    """The columns of each line that is no comment."""
    lines = path.read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def places(folder: Path) -> list[tuple[str, str, str]]:
    """Area, country and city, in the order of zone.tab."""
    names = dict(table(folder / "iso3166.tab"))
    found = []
    for code, _, zone, *_ in table(folder / "zone.tab"):
        area, *_, city = zone.split("/")
        country, city = names[code].replace("&", "and"), city.replace("_", " ")
        if area in AREAS and "(" not in country and city not in country:
            found.append((area, country, city))
    return found


def documents(folder: Path) -> list[dict[str, object]]:
    """The continent, then the country, of each place."""
    known = places(folder)
    of_area = {area: sorted({country for own, country, _ in known if own == area}) for area in AREAS}
    found: list[dict[str, object]] = []
    for area, _, city in known:
        found.append(
            {"context": f"The city of {city} is in the continent of", "choices": AREAS, "answer": AREAS.index(area)}
        )
    for area, country, city in known:
        others = of_area[area]
        first = others.index(country)
        choices = sorted(others[(first + step) % len(others)] for step in range(4))
        context = f"The city of {city} is in the country of"
        found.append({"context": context, "choices": choices, "answer": choices.index(country)})
    return found


if __name__ == "__main__":
    made = documents(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/zoneinfo"))
    OWN.write_text("".join(json.dumps(document) + "\n" for document in made), "utf-8")
