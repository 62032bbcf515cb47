"""Experiments on the tasks beside segmentation: detection and classification."""
