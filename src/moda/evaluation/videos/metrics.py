"""What is measured: every metric with its name, its unit, its direction and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "like the real video"]
Group = Literal["picture", "lips", "head and eyes", "time and cost", "learned"]
GROUPS: tuple[Group, ...] = ("picture", "lips", "head and eyes", "time and cost", "learned")


@dataclass(frozen=True)
class Metric:
    """One column of the report."""

    key: str
    label: str
    group: Group
    better: Better
    what: str
    digits: int = 2
    percent: bool = False


def _table(*metrics: Metric) -> Mapping[str, Metric]:
    return {metric.key: metric for metric in metrics}


METRICS: Mapping[str, Metric] = _table(
    Metric("psnr_whole", "PSNR whole, dB", "picture", "higher",
           "peak signal-to-noise ratio against the real frame, source frame left out", 1),
    Metric("psnr_face", "PSNR face, dB", "picture", "higher", "the same inside the face oval", 1),
    Metric("psnr_mouth", "PSNR mouth, dB", "picture", "higher",
           "the same from the nose base over the smile folds to the chin", 1),
    Metric("ssim_whole", "SSIM whole", "picture", "higher",
           "structural similarity of the brightness, Gaussian window", 3),
    Metric("ssim_face", "SSIM face", "picture", "higher", "the same inside the face oval", 3),
    Metric("ssim_mouth", "SSIM mouth", "picture", "higher", "the same around the mouth", 3),
    Metric("background_motion", "background, px/frame", "picture", "like the real video",
           "median step of corners in the background, mean over frames"),
    Metric("lmd", "LMD", "lips", "lower",
           "distance of the face points from the real ones, pose included, in % of the outer-eye "
           "distance"),
    Metric("mouth_lmd", "M-LMD", "lips", "lower",
           "distance of the lip points, middles of the lips laid together, in % of the outer-eye "
           "distance"),
    Metric("expression_lmd", "LMD without pose", "lips", "lower",
           "distance of the face points once the pose of both is removed, in %"),
    Metric("lip_correlation", "lip gap r", "lips", "higher",
           "Pearson correlation of the lip gap with the real one, best lag within 6 frames", 3),
    Metric("lip_lag", "lip lag, s", "lips", "like the real video",
           "that lag; positive: later than the real lips", 2),
    Metric("mouth_amplitude", "mouth amplitude", "lips", "like the real video",
           "standard deviation of the lip gap, in % of the outer-eye distance"),
    Metric("closure", "closed at p b m", "lips", "higher",
           "share of p, b, m with closed lips in a frame (needs phone times)", 0, percent=True),
    Metric("closure_chance", "closed by chance", "lips", "like the real video",
           "the same for random windows of other sounds", 0, percent=True),
    Metric("silence_closed", "closed in silence", "lips", "higher",
           "share of the frames in silences of half a second with closed lips", 0, percent=True),
    Metric("lip_jerk", "lip jerk", "lips", "like the real video",
           "root mean square third derivative of the lip gap, in outer-eye distances per s³", 0),
    Metric("blinks", "blinks/min", "head and eyes", "like the real video",
           "closings of the lids per minute", 1),
    Metric("head_amplitude", "head, degrees", "head and eyes", "like the real video",
           "standard deviation of pitch, yaw and roll, mean of the three"),
    Metric("head_diversity", "diversity, degrees", "head and eyes", "higher",
           "mean distance of the head's angles between seeds"),
    Metric("head_jerk", "head jerk", "head and eyes", "like the real video",
           "root mean square third derivative of the head's place, outer-eye distances per s³", 0),
    Metric("border_jump", "window borders", "head and eyes", "lower",
           "95th percentile of the head's steps where windows join, over that elsewhere"),
    Metric("face_found", "face found", "head and eyes", "higher",
           "share of the frames in which the tracker sees the face", 0, percent=True),
    Metric("length_difference", "video less sound, s", "time and cost", "like the real video",
           "length of the video less that of the speech", 3),
    Metric("lip_drift", "drift, s/min", "time and cost", "like the real video",
           "lag of the lips in the second half less that in the first, by time"),
    Metric("real_time_factor", "real-time factor", "time and cost", "lower",
           "time to make the video over its length, model loaded"),
    Metric("first_frame_seconds", "first frame, s", "time and cost", "lower",
           "from the call to the first frame, model loaded"),
    Metric("peak_memory_mb", "peak memory, MB", "time and cost", "lower",
           "largest resident memory of the process that made the video", 0),
    Metric("identity_similarity", "identity similarity (stand-in for CSIM)", "learned", "higher",
           "cosine of dlib's face embeddings with the portrait, source frame left out; two people "
           "have 0.83, one person in two clips 0.96", 3),
    Metric("face_frechet", "Fréchet distance of face embeddings (stand-in for FID)", "learned",
           "lower",
           "of dlib's embeddings of all faces from those of the real frames, source frames left "
           "out; its unit is not FID's, and halves of one video differ by 0.01 to 0.03", 3),
    Metric("sync_confidence", "Sync-C", "learned", "higher", "SyncNet's confidence (LSE-C)", 3),
    Metric("sync_distance", "Sync-D", "learned", "lower", "SyncNet's distance (LSE-D)", 3),
    Metric("csim_sface", "CSIM (SFace)", "learned", "higher",
           "cosine of face embeddings with the portrait, SFace", 3),
    Metric("csim_arcface", "CSIM (ArcFace)", "learned", "higher",
           "the same with the ArcFace network that was converted", 3),
    Metric("lpips", "LPIPS", "learned", "lower",
           "learned perceptual distance from the real frame, AlexNet, source frame left out", 3),
    Metric("fid", "FID", "learned", "lower",
           "Fréchet distance of Inception features of all frames from those of the real ones", 1),
    Metric("fvd", "FVD", "learned", "lower",
           "Fréchet distance of I3D logits of 16-frame pieces from those of the real ones", 1),
)  # fmt: skip
STATED = ("real_time_factor", "first_frame_seconds", "peak_memory_mb")
"""Figures that a method's videos cannot show, and that a protocol may state."""
