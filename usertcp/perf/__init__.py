"""What a road through the network carries: a measurement between two programs, over usertcp or the kernel's TCP."""
