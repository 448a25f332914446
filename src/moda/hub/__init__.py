"""Published models from the hub: a catalogue, downloads that are checked, and conversion.

A download is checked against a SHA-256: that of the catalogue where it is known; else the one that
the hub declares, which is written down with the commit that it was found at, so that later
downloads and checks hold to them (trust on first use).
"""

from moda.hub.catalogue import (
    CATALOGUE,
    HubFile,
    PublishedModel,
    find_model,
    models_folder,
    published_model,
)
from moda.hub.installation import (
    download_originals,
    install_model,
    model_state,
    verify_model,
)

__all__ = [
    "CATALOGUE",
    "HubFile",
    "PublishedModel",
    "download_originals",
    "find_model",
    "install_model",
    "model_state",
    "models_folder",
    "published_model",
    "verify_model",
]
