# SPDX-License-Identifier: Apache-2.0
"""Any Hydra application can compose this package's groups by its schema: `defaults: [tt_transformers_v2/schema, …]`."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.plugins.search_path_plugin import SearchPathPlugin

from tt_transformers_v2.common.checkout import PACKAGE
from tt_transformers_v2.config.conf_folders import conf_dirs
from tt_transformers_v2.config.schema_store import store_schema

PROVIDER = "tt_transformers_v2"

store_schema()


class TTTransformersGroups(SearchPathPlugin):
    """Adds the configuration groups after those of the application, and folders that a user added before them."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends the packaged conf/, or that of the checkout, unless it is the application's own."""
        *added, folder = conf_dirs()
        for own in reversed(added):
            search_path.prepend(provider=PROVIDER, path=f"file://{own}", anchor=SearchPathQuery(provider="main"))
        path = f"pkg://{PROVIDER}.conf" if folder.parent == PACKAGE else f"file://{folder}"
        known = {str(item.path).removeprefix("file://") for item in search_path.get_path()}
        if str(folder) not in known:
            search_path.append(provider=PROVIDER, path=path)
