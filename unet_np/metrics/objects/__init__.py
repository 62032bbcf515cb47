"""Scores of objects (Table 2): segments, masks that overlap, and detections."""
