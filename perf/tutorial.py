"""The baseline: what people write after the usual tutorial, with PIL, torchvision, scikit-learn and OpenCV.

Binary data, one logit. Nothing is slowed down on purpose, and nothing of this project is used.
"""

import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision.transforms as T  # noqa: N812 - as in its documentation
from PIL import Image
from sklearn.metrics import auc, confusion_matrix, f1_score, precision_recall_curve, roc_curve
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small, resnet18, segmentation
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3, _deeplabv3_mobilenetv3

STRIDES = {"resnet50": 8, "resnet101": 8, "resnet18": 32, "mobilenetv3_small": 16, "mobilenetv3_large": 16}
"""The output stride at which torchvision builds each model; all contenders use it."""


def deeplab(backbone: str) -> nn.Module:
    """torchvision's DeepLabV3, untrained. It offers ResNet-50, 101 and MobileNetV3-Large; others are built the same."""
    if backbone in ("resnet50", "resnet101"):
        build = getattr(segmentation, f"deeplabv3_{backbone}")
        model: nn.Module = build(weights=None, weights_backbone=None, num_classes=1)
        return model
    if backbone == "resnet18":
        trunk = IntermediateLayerGetter(resnet18(), return_layers={"layer4": "out"})
        return DeepLabV3(trunk, DeepLabHead(512, 1), None)
    build = {"mobilenetv3_small": mobilenet_v3_small, "mobilenetv3_large": mobilenet_v3_large}[backbone]
    return _deeplabv3_mobilenetv3(build(dilated=True), 1, None)


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """A folder of images and a folder of masks, resized by torchvision."""

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        self.images = sorted((root / "images").iterdir())
        self.masks = sorted((root / "masks").iterdir())
        self.image_transform = T.Compose([T.Resize(size), T.ToTensor()])
        self.mask_transform = T.Compose([T.Resize(size, T.InterpolationMode.NEAREST), T.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = Image.open(self.images[index]).convert("RGB")
        mask = Image.open(self.masks[index]).convert("L")
        return self.image_transform(image), self.mask_transform(mask)


class Training:
    """The loop over a DataLoader: fp32, Adam, binary cross-entropy, `loss.item()` in each step."""

    def __init__(
        self, model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]], device: str, lr: float = 1e-4
    ) -> None:
        self.model = model.to(device).train()
        self.loader = loader
        self.device = device
        self.criterion = nn.BCEWithLogitsLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)

    def epoch(self, steps: int) -> float:
        """Images per second over `steps` steps, with loading."""
        start, seen, total = time.perf_counter(), 0, 0.0
        for image, mask in islice(self.loader, steps):
            image, mask = image.to(self.device), mask.to(self.device)
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(image)["out"], mask)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
            seen += len(image)
        return seen / (time.perf_counter() - start)


def trained(backbone: str, root: Path, size: tuple[int, int], device: str) -> nn.Module:
    """A model after ten epochs at half of `size`, so that it separates foreground and background; not timed."""
    model = deeplab(backbone)
    half = (size[0] // 2, size[1] // 2)
    training = Training(model, _shuffled(root, half), device, lr=1e-3)
    quickly = device == "cuda" or torch.cpu._is_avx512_bf16_supported()
    with torch.autocast(device, torch.bfloat16, enabled=quickly):
        for _ in range(10):
            training.epoch(8)
    # After so few steps the running statistics lag behind: recompute them over the training images at full size.
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
        if isinstance(layer, nn.Dropout):
            layer.eval()
    with torch.no_grad():
        for image, _ in _shuffled(root, size):
            model(image.to(device))
    return model.eval()


def _shuffled(root: Path, size: tuple[int, int]) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(Pictures(root, size), batch_size=8, shuffle=True, drop_last=True)


def evaluate(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]], device: str) -> dict[str, float]:
    """scikit-learn's scores from all pixels of the data set at once."""
    model.eval()
    truths, scores = [], []
    with torch.no_grad():
        for image, mask in loader:
            output = torch.sigmoid(model(image.to(device))["out"])
            truths.append(mask.numpy().flatten())
            scores.append(output.cpu().numpy().flatten())
    truth, score = np.concatenate(truths), np.concatenate(scores)
    truth, label = (truth > 0.5).astype(int), (score > 0.5).astype(int)
    false_positive, true_positive, _ = roc_curve(truth, score)
    precision, recall, _ = precision_recall_curve(truth, score)
    counts = confusion_matrix(truth, label, labels=[0, 1])
    return {
        "roc_auc": float(auc(false_positive, true_positive)),
        "pr_auc": float(auc(recall, precision)),
        "f1": float(f1_score(truth, label, zero_division=0)),
        "iou": float(counts[1, 1] / max(1, counts.sum() - counts[0, 0])),
    }


def predict_video(model: nn.Module, source: Path, target: Path, size: tuple[int, int], device: str) -> int:
    """Read, predict, draw and write one frame at a time; returns the number of frames."""
    transform = T.Compose([T.ToPILImage(), T.Resize(size), T.ToTensor()])
    model.eval()
    video = cv2.VideoCapture(str(source))
    width, height = (int(video.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    rate = video.get(cv2.CAP_PROP_FPS)
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"mp4v"), rate, (width, height))
    frames = 0
    while True:
        there, frame = video.read()
        if not there:
            break
        image = transform(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))[None].to(device)
        with torch.no_grad():
            mask = torch.sigmoid(model(image)["out"])[0, 0].cpu().numpy() > 0.5
        mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        colour = np.zeros_like(frame)
        colour[mask == 1] = (0, 0, 255)
        writer.write(cv2.addWeighted(frame, 1.0, colour, 0.5, 0))
        frames += 1
    video.release()
    writer.release()
    return frames
