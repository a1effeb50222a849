"""People decide: conflicts, their resolution, their list. Imports pems_sync."""
