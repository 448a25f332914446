"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """All counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.active = Gauge(
            "moda_live_sessions", "Live sessions now, with those that end", registry=registry
        )
        self.waiting = Gauge(
            "moda_live_waiting", "Clients that wait for a live session", registry=registry
        )
        self.started = Counter(
            "moda_live_started", "Live sessions that were begun", registry=registry
        )
        self.refused = Counter(
            "moda_live_refused", "Live sessions refused because of the limit", registry=registry
        )
        self.failed_workers = Counter(
            "moda_live_failed_workers", "Workers that died or hung", registry=registry
        )
        self.frames = Counter("moda_live_frames", "Live frames made", registry=registry)
        self.undrawn = Counter(
            "moda_live_undrawn_frames",
            "Live frames without a new picture because the machine was late",
            registry=registry,
        )
        self.late = Gauge(
            "moda_live_late_seconds",
            "Largest lateness of a frame in the last session heard of",
            registry=registry,
        )
        self.skipped = Counter(
            "moda_live_skipped_seconds", "Sound left out to catch up", registry=registry
        )
        self.jobs = Counter(
            "moda_videos", "Videos by how they ended", labelnames=["state"], registry=registry
        )
        self.open_jobs = Gauge(
            "moda_videos_open", "Videos that are made or wait to be made", registry=registry
        )
        self.job_seconds = Histogram(
            "moda_video_seconds",
            "Time to make a video",
            buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
            registry=registry,
        )
        self.requests = Counter(
            "moda_http_requests",
            "HTTP requests by status",
            labelnames=["status"],
            registry=registry,
        )

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self.registry)
