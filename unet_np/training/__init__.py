"""Training (Sec. 3): settings, samples, momentum, the loop, and runs that can be resumed."""
