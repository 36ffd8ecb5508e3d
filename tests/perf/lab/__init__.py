"""What tests/perf/cost, workers and report measure with: one module for each of place, servers, method."""
