"""Devices: TAP and TUN, AF_PACKET, memory; what goes in between; and the setting up of all that."""
