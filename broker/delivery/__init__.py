"""What is handed over: known_hosts lines, .rdp file, sealed secrets, and warnings that tell the truth (pure)."""
