"""Rehearsals of what an operator does in the worst hour."""
