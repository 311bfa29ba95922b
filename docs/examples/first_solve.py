"""Solve a shipped problem, look at the errors, evaluate the solution anywhere."""

import numpy as np

import kanpinn

solution = kanpinn.solve(["problem=heat", "seed=1"])

for level in solution.metrics["levels"]:
    print(f"{level['grid']:3d} intervals  loss {level['loss']:.1e}  error {level['relative_l2']['u']:.1e}")

points = np.array([[0.5, 0.0], [0.5, 0.5], [0.5, 1.0]])  # columns x, t
print("u:   ", solution(points)["u"])
print("u_t: ", solution.derivative(points, "u", "t"))
print("u_xx:", solution.derivative(points, "u", "xx"))
print("files:", solution.folder)
