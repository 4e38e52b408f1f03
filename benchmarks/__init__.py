"""What reposyncd costs, as ratios against a yardstick run beside it. Machines differ, ratios less."""
