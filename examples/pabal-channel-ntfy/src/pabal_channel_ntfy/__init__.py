"""Push notifications to topics of ntfy (https://ntfy.sh): a channel, and the provider that carries it."""
