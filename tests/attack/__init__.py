"""What an attacker, a foreign client and the field really send."""
