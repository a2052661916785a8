"""``novacron bench prediction``: how long the forecaster takes over all links of a site at once."""

from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated

import typer

app = typer.Typer(help="Times one answer about many links, as the predictor asks for it every second.")
_SAMPLES, _SEED = 70, 0


@app.command()
def prediction(
    links: Annotated[int, typer.Option(min=1, max=10_000, help="How many are asked about at once.")] = 100,
    rounds: Annotated[int, typer.Option(min=10, max=100_000, help="How often each forecaster answers.")] = 300,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows to this file.")] = None,
) -> None:
    """The simple methods, one member of the forecaster in use, and all; links of 70 seconds with all covariates."""
    import numpy as np

    from benchmarks.report import Row, show, write
    from models.bandwidth import load_forecaster
    from models.bandwidth.predict import Forecaster, Series

    rng, t_s = np.random.default_rng(_SEED), np.arange(float(_SAMPLES))
    asked: list[Series] = []
    for _ in range(links):
        rates = np.exp(rng.normal(4, 1) + np.cumsum(rng.normal(0, 0.05, _SAMPLES)))
        rtt_ms = rng.uniform(20, 60, _SAMPLES)
        asked.append((rates, t_s, {"rtt_ms": rtt_ms, "jitter_ms": rtt_ms / 9, "retrans": rtt_ms // 9, "tod_s": t_s}))
    known = load_forecaster()
    systems = {"simple": 0, "member": 1, known.version: len(known.members)}
    rows: list[Row] = []
    for name, count in systems.items():
        forecaster = Forecaster(known.members[:count], known.levels)
        forecaster.predict_batch(asked)  # the first call compiles
        taken_s = np.empty((rounds, 2))
        for each in taken_s:
            begun_s, begun_cpu_s = perf_counter(), process_time()
            forecaster.predict_batch(asked)
            each[:] = perf_counter() - begun_s, process_time() - begun_cpu_s
        (p50, cpu_p50), (p99, cpu_p99) = np.round(np.percentile(taken_s, [50, 99], axis=0) * 1e3, 2).tolist()
        rows.append(
            {"system": name, "links": links, "p50_ms": p50, "p99_ms": p99, "cpu_p50_ms": cpu_p50, "cpu_p99_ms": cpu_p99}
        )
    if json is not None:
        write("prediction", rows, json)
    show(f"{links} links in one batch", rows, list(rows[0]))
