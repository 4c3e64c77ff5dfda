"""The routing structures behind the exchange types that need more than a dictionary."""
