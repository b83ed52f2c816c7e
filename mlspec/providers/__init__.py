"""The hands: one module for each kind of resource, with `apply(step, context) -> Change`."""
