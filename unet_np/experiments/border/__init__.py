"""What a border costs: padding in the network against mirrored images (Fig. 2)."""
