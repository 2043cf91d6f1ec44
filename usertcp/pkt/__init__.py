"""packetdrill scripts, run against usertcp in virtual time and against the kernel in a namespace."""
