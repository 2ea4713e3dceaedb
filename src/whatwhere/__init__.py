"""whatwhere: channel attention (what) and spatial attention (where) for convolutional networks."""

from .layers import BAM, CBAM, SE, Attention, ChannelAttention, Gates, SpatialAttention, create, names

__all__ = ["BAM", "CBAM", "SE", "Attention", "ChannelAttention", "Gates", "SpatialAttention", "create", "names"]
