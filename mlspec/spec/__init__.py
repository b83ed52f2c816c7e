"""The spec language: what users write, loaded and checked."""
