"""The command `broker`: one module for each command, of which a call imports only its own."""
