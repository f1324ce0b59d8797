# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all; CSV is written in one way."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError


def write_atomically(
    path: Path,
    content: str | bytes,
    *,
    lasting: bool = True,
    hint: str = "Free some space or choose another hydra.run.dir.",
) -> None:
    """Writes `content`, text as UTF-8, to `path` in one step: readers see the old file or the whole new one.

    Without `lasting` it is not waited for the disk: a power cut may spoil the file.
    Raises ConfigError, with `hint`, when the folder cannot be written or the disk is full; nothing is left behind then.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror}.", hint) from None
    except KeyboardInterrupt:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """CSV of `rows` under a header; None, and what a row lacks, is an empty field.

    Without `columns` they are the first row's, and a row with others raises ValueError; no rows give an empty text.
    """
    text, writer = io.StringIO(), None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(
                text, list(columns or row), extrasaction="ignore" if columns else "raise", lineterminator="\n"
            )
            writer.writeheader()
        writer.writerow(row)
    return text.getvalue()
