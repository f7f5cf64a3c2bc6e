"""Pictures made by gradient ascent: one loop, and the values that say what climbs, over what and how."""
