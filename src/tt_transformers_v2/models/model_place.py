# SPDX-License-Identifier: Apache-2.0
"""Where a model's files are: the folder or .gguf file that a path means, or the hub's cache on this machine."""

from __future__ import annotations

from pathlib import Path

from ..common.errors import ConfigError

HUB = "hub"
# What a model needs of its repository; pickles and other frameworks' files are left where they are.
_WANTED = ("config.json", "tokenizer.json", "*.safetensors", "*.safetensors.index.json")
_EITHER = "Use a Hugging Face folder or a .gguf file."


def model_place(path: str) -> Path:
    """The Hugging Face folder or .gguf file that `path` names.

    A folder may also be one that holds nothing but a .gguf file, or a model's folder in the hub's cache
    (models--org--name). Raises ConfigError when there is neither.
    """
    try:
        place = Path(path).expanduser()
        is_folder, is_there = place.is_dir(), place.exists()
    except (OSError, RuntimeError) as error:  # too long a name, no permission, no such user's home
        raise ConfigError(f"the model path {path} cannot be used: {error}.") from error
    if not is_there:
        raise ConfigError(f"the model path {place} does not exist.", _EITHER)
    if is_folder:
        return _in_folder(_snapshot(place))
    if place.suffix.lower() != ".gguf":
        raise ConfigError(f"{place} is neither a folder nor a .gguf file.", "Use the folder that contains it.")
    return place


def _in_folder(folder: Path) -> Path:
    """The folder, or the one .gguf file of a folder that holds no other model."""
    if (folder / "config.json").exists() or any(folder.glob("*.safetensors")):
        return folder
    # What llama.cpp calls mmproj is a vision tower beside a model.
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".gguf"]
    models = [path for path in files if "mmproj" not in path.name]
    if len(models) > 1:
        raise ConfigError(f"{folder} holds several .gguf files: {_some(models)}.", "Use the path of one of them.")
    return models[0] if models else folder


def _snapshot(folder: Path) -> Path:
    """The folder, or the current snapshot of a model's folder in the hub's cache."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir() or (folder / "config.json").exists():
        return folder
    try:
        named = (folder / "refs" / "main").read_text("utf-8").strip()
    except (OSError, ValueError):
        named = ""
    if named and Path(named).name == named and (snapshots / named).is_dir():
        return snapshots / named
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    if len(found) == 1:
        return found[0]
    what = f"several snapshots, and refs/main names none: {_some(found)}" if found else "no snapshot"
    raise ConfigError(f"{folder} holds {what}.", "Use the path of a snapshot." if found else "Download the model.")


def _some(paths: list[Path]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(path.name for path in paths[:3]) + more


def hub_folder(hf_id: str, *, download: bool = False) -> str:
    """The folder of the model `hf_id` (ORG/NAME) in the hub's cache on this machine.

    Only with `download` is the hub asked, for what the cache lacks. Raises ConfigError for a model that is not in the
    cache or cannot be downloaded, and where huggingface_hub is not installed.
    """
    if not hf_id:
        raise ConfigError("model.path=hub needs the model's name on the hub.", "Add model.hf_id=ORG/NAME.")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        install = "Install it: pip install 'tt-transformers-v2[hub]'."
        raise ConfigError("model.path=hub needs the package huggingface_hub.", install) from None
    try:
        return str(snapshot_download(hf_id, local_files_only=not download, allow_patterns=list(_WANTED)))
    except LocalEntryNotFoundError as error:
        if download:
            raise _undownloaded(hf_id, error) from error
        raise ConfigError(
            f"{hf_id} is not in the Hugging Face cache of this machine.",
            "Add model.download=true to download it, or use model.path=DIR.",
        ) from None
    except Exception as error:  # whatever the network, the hub and its client raise
        raise _undownloaded(hf_id, error) from error


def _undownloaded(hf_id: str, error: Exception) -> ConfigError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    what = "downloaded" if "repo id" not in reason.lower() else "looked up"
    return ConfigError(f"{hf_id} cannot be {what}: {reason[:160].rstrip('.')}.", "Or use model.path=DIR.")
