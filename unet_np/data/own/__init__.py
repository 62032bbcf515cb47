"""The user's own images and masks: which belong together, and what the masks' values mean."""
