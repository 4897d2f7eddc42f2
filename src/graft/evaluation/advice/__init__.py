"""Which technique, and why: measured, predicted, and checked on held-out examples."""
