"""Links that are no devices, and what goes in between."""
