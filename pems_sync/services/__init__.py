"""Everything that changes rows, one module per way of an edit. Public functions are keyword-only and raise domain errors."""
