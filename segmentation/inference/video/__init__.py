"""Videos and cameras: decoding, inference and encoding overlap."""

from segmentation.inference.video.run import Render, VideoSummary, overlays, predict_video

__all__ = ["Render", "VideoSummary", "overlays", "predict_video"]
