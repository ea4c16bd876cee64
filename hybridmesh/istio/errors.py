"""What is wrong with an input, said so that a person can put it right."""

_SHOWN = 120
"""Characters of a value that an error shows."""


class BootstrapError(ValueError):
    """An input from which no working bootstrap file can be made. Nothing was made or written."""

    def __init__(self, field: str, value: object, problem: str, consequence: str, fix: str) -> None:
        """`value` is shown as Python would write it, shortened; None: nothing is there."""
        self.field = field
        """Where it is, as a person would look for it: `WorkloadGroup metadata.namespace`, `--internalIP`."""
        self.value = value
        self.problem = problem
        self.consequence = consequence
        self.fix = fix
        text = repr(value)
        if len(text) > _SHOWN:
            text = text[: _SHOWN - 1] + "…"
        shown = "" if value is None else f" = {text}"
        super().__init__(f"{field}{shown}: {problem}. {consequence} Fix: {fix}")
