"""Tell malignant from benign tumours by measurements of cell nuclei."""
