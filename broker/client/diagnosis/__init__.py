"""Why can I not get in? Checks one after the other, from the settings here to the login there."""
