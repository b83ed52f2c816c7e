"""What `mlspec gc` does: read what there is (`reading`), remove what may go (`removing`).

What may go is decided by :mod:`mlspec.planner.garbage`.
"""
