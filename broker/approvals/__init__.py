"""What people agree on beforehand: requests for access.

Pure: a request is a fold over the facts that its thread of the log holds. Who writes them, and by which policies, is
decided in `issuing`.
"""
