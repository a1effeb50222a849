"""`make demo`: the main job on realistic data, through real processes, with scripted trouble, counted at the other end."""
