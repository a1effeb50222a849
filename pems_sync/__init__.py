"""The engine: records, modifications, queue, delivery, inbound, dead letters. Imports no other app."""
