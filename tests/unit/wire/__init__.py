"""Bytes and values: one file a format; known vectors, limits and damage."""
