"""Stack configuration as frozen, validated models: one pure parser, two adapters."""

from .files import findings_in, findings_in_stack_file, from_stack_file, read_below
from .findings import NAMESPACE, Finding, SettingsError
from .models import Settings
from .parser import ReadFile, parse

__all__ = [
    "NAMESPACE",
    "Finding",
    "ReadFile",
    "Settings",
    "SettingsError",
    "findings_in",
    "findings_in_stack_file",
    "from_stack_file",
    "parse",
    "read_below",
]
