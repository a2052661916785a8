# %% [markdown]
# # How well do the simple forecasters do?
#
# The exponentially weighted mean that answers in a running cluster, beside the last value, on recorded links.
# The recording is a CSV with the columns `trace_id`, `t` (seconds) and `bw_mbps`. An honest 80 % interval has a
# coverage near 0.8; of two honest ones the narrower is better. A model that does not beat both is not used.
# The environment variable `BANDWIDTH_CSV` names another recording without an edit.

# %% tags=["parameters"]
csv_path = "bandwidth.csv"
horizons_s = [5.0, 30.0]
half_life_s = 10.0
history_s = 600.0

# %%
import os
from pathlib import Path

from models.bandwidth.baselines import LastValue
from models.bandwidth.evaluation import read_traces, score
from models.bandwidth.ewma import Ewma

traces = read_traces(Path(os.environ.get("BANDWIDTH_CSV", csv_path)))
print(f"{len(traces)} traces, {sum(map(len, traces.values()))} samples")

# %%
forecasters = {"ewma": lambda: Ewma(half_life_s, history_s), "last-value": lambda: LastValue(history_s)}
rows = [
    {"method": name, "horizon_s": horizon_s, **score(make, traces, horizon_s)}
    for horizon_s in horizons_s
    for name, make in forecasters.items()
]

# %%
print(f"{'method':<12}{'horizon':>9}{'MAPE':>9}{'coverage':>10}{'width':>8}")
for row in rows:
    print(
        f"{row['method']:<12}{row['horizon_s']:>7.0f} s{row['mape']:>9.1%}{row['coverage']:>10.1%}{row['width']:>8.2f}"
    )
