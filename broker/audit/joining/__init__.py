"""Holding the log against what others wrote: the logs of sshd, and CloudTrail."""
