"""Measuring: scores with intervals, likelihoods, what a codec keeps, and the referee that listens to spoken answers.

Studies that compare many training runs are not here; they are scripts in `benchmarks/`.
"""
