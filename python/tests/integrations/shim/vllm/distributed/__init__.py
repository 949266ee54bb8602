"""The group by which weights come."""
