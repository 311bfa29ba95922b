"""Read a run's file with xarray: fields with coordinates, the history of the training, the levels."""

import xarray

import kanpinn

solution = kanpinn.solve(["problem=heat"])
file = solution.folder / "solution.h5"

with xarray.open_dataset(file, engine="h5netcdf") as fields:
    print(fields)
    error = abs(fields["u_error"]).max("x")
    print(f"largest error at t = {float(error.idxmax('t')):.2f}: {float(error.max()):.1e}")
    print(f"u in the middle at the end: {float(fields['u'].sel(x=0.5, t=1.0, method='nearest')):.6f}")

with xarray.open_dataset(file, engine="h5netcdf", group="history") as history:
    print("loss after each step:", history["loss"].values[:5], "…")
