"""Nuclei from elsewhere: from 1 to 16 annotated images, from scratch and fine-tuned."""
