"""What the server counts, for Prometheus."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """All counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        gauge = partial(Gauge, registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        self.active = gauge("moda_live_sessions", "Live sessions now, with those that end")
        self.waiting = gauge("moda_live_waiting", "Clients that wait for a live session")
        self.started = counter("moda_live_started", "Live sessions that were begun")
        self.refused = counter("moda_live_refused", "Live sessions refused because of the limit")
        self.failed_workers = counter("moda_live_failed_workers", "Workers that died or hung")
        self.frames = counter("moda_live_frames", "Live frames made")
        self.undrawn = counter(
            "moda_live_undrawn_frames",
            "Live frames without a new picture because the machine was late",
        )
        self.late = gauge(
            "moda_live_late_seconds", "Largest lateness of a frame in the last session heard of"
        )
        self.skipped = counter("moda_live_skipped_seconds", "Sound left out to catch up")
        self.jobs = counter("moda_videos", "Videos by how they ended", labelnames=["state"])
        self.open_jobs = gauge("moda_videos_open", "Videos that are made or wait to be made")
        self.job_seconds = Histogram(
            "moda_video_seconds",
            "Time to make a video",
            buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
            registry=self.registry,
        )
        self.requests = counter(
            "moda_http_requests", "HTTP requests by status", labelnames=["status"]
        )
