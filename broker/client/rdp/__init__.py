"""A Windows instance opened by the native RDP client of this machine: which one, how it is told, and who answers."""
