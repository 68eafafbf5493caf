"""What the method is checked against: bounds by full enumeration, and the released code's behaviour, number for number.

No other room imports it; tests, notebooks and benchmarks do.
"""
