"""What is told of work as it goes on: figures for Prometheus, traces for OpenTelemetry."""
