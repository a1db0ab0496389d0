"""Measuring proxy modes: what is measured, the prober, the statistics, the record and the report."""
