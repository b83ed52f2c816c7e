"""What a prediction over HTTP costs: `make bench-serving`."""
