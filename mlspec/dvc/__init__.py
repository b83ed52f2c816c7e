"""DVC's files and hashes without DVC, and DVC itself in a child process."""
