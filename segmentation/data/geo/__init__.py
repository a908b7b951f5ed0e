"""Images of the earth: scenes of GeoTIFFs, labels as vectors or rasters, and areas that are divided without leakage."""

from segmentation.data.geo.geotiff import evaluation_options, geotiff, metres_per_pixel

__all__ = ["evaluation_options", "geotiff", "metres_per_pixel"]
