"""Two-stage networks made quick for tests: the thousands of proposals of a real run only take time on tiny pictures."""

from __future__ import annotations

from typing import Any

from torchvision.models.detection import FasterRCNN

from obdb_lib.models import Detector


def quick(detector: Detector, proposals: int = 24) -> Detector:
    """The detector with few proposals a picture; its parts and weights stay as they are."""
    network: Any = detector.network
    if isinstance(network, FasterRCNN):
        few = {"training": proposals, "testing": proposals}
        network.rpn._pre_nms_top_n = network.rpn._post_nms_top_n = few
        network.roi_heads.fg_bg_sampler.batch_size_per_image = proposals
    return detector
