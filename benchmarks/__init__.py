"""How fast mlspec is, beside DVC and Git, measured on repositories that are made for it."""
