"""What the workflows in .github/workflows run, so that their logic is code with tests: `python -m ci VERB`."""
