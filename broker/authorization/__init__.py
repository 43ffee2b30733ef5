"""The judge: may this caller do that to this instance now? Cedar decides; whatever goes wrong is a no.

The door is `policies.Policies`; `tables` runs truth tables, `loading` reads and checks a directory of policies.
"""
