"""Readings that devices and gateways publish to an MQTT broker, plain JSON or Sparkplug B."""
