"""`make soak HOURS=h`: twice the rated load on a real stack; nothing may grow but history. See deploy/runbooks/capacity.md."""
