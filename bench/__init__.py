"""Speed and message counts of dhtex, as ratios against something else measured in the same run. See `scripts/bench`."""
