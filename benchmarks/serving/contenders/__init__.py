"""What the generated service is measured against, each as its own documentation would have it."""
