"""State and audit in Git, on one ref."""
