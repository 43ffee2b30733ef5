"""The front door: a bearer token goes in, a `Caller` comes out, or `InvalidToken`."""
