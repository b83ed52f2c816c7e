"""Pure functions from the spec to the text of generated files."""
