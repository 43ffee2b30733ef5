"""The whole thing on one machine, for a person to see: an embedded Lightsail, a broker over HTTPS, a real sshd."""
