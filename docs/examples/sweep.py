"""Compare networks and seeds: a loop of solves, and a table of what they reach."""

from statistics import median

import kanpinn

print("network      parameters  median error  seconds")
for backbone in ("kan", "mlp", "separable"):
    runs = [
        kanpinn.solve(
            ["problem=heat", f"backbone={backbone}", f"seed={seed}", "schedule.levels=2", "schedule.steps=30"]
        )
        for seed in range(3)
    ]
    metrics = [run.metrics for run in runs]
    error = median(m["relative_l2"]["u"] for m in metrics)
    seconds = median(m["wall_time_s"] for m in metrics)
    print(f"{backbone:12s} {metrics[0]['parameters']:10d}  {error:12.1e}  {seconds:7.1f}")
