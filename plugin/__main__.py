#!/usr/bin/env python3
"""The components as a Pulumi plugin. Started by Pulumi, as a folder or, by its other name, as this program."""

import importlib
import sys
from pathlib import Path

VERSION = "0.1.0"

if __name__ == "__main__":
    try:
        plugin = importlib.import_module("hybridmesh.components.plugin")
    except ModuleNotFoundError:  # in a checkout, where the package is not installed
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        plugin = importlib.import_module("components.plugin")
    plugin.main(VERSION)
