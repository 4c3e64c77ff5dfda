"""Bytes to commands and back, without I/O: frames, methods, and the encoders of the hot path."""
