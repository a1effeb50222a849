"""Tell people: groups, hub, consumers, tickets. Imports pems_sync and conflicts' events."""
