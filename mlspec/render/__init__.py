"""Text and JSON views of plans, reports and problems."""
