"""What the service says to others unasked, over HTTP: small messages to places that operators named."""
