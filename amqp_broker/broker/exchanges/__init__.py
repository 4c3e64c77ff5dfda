"""The exchange types, one module each, and the structures they route by."""
