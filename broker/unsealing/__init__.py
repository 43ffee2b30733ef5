"""The vault: RSA keys in custody, Windows passwords opened, SSH certificates inspected. No network, no logging."""
