"""Replays of what official SDKs send, against a running gateway, judged as strictly as they judge."""
