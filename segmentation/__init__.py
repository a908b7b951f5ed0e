"""DeepLabV3-family semantic segmentation on any torchvision backbone."""

__version__ = "0.1.0"
