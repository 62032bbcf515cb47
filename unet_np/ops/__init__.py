"""The operations of the network, each with its backward pass.

A forward returns ``(output, cache)``; its backward takes ``(grad_output, cache)``.
`weighted_cross_entropy`, the end of the network, returns ``(loss, grad_logits)``.
"""

from unet_np.ops.activation import dropout, dropout_backward, relu, relu_backward
from unet_np.ops.beyond.head import (
    global_average_pool,
    global_average_pool_backward,
    linear,
    linear_backward,
)
from unet_np.ops.beyond.heat import detection_loss, heat_cross_entropy, sigmoid, smooth_l1
from unet_np.ops.beyond.norm import (
    Statistics,
    batch_norm,
    batch_norm_backward,
    channel_statistics,
    instance_norm,
    instance_norm_backward,
)
from unet_np.ops.beyond.upsampling import upsample, upsample_backward
from unet_np.ops.conv import conv2d, conv2d_backward
from unet_np.ops.crop import center_crop, crop_concat, crop_concat_backward
from unet_np.ops.loss import softmax, softmax_backward, weighted_cross_entropy
from unet_np.ops.pool import max_pool2d, max_pool2d_backward
from unet_np.ops.upconv import conv_transpose2d, conv_transpose2d_backward

__all__ = [
    "Statistics",
    "batch_norm",
    "batch_norm_backward",
    "center_crop",
    "channel_statistics",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "crop_concat",
    "crop_concat_backward",
    "detection_loss",
    "dropout",
    "dropout_backward",
    "global_average_pool",
    "global_average_pool_backward",
    "heat_cross_entropy",
    "instance_norm",
    "instance_norm_backward",
    "linear",
    "linear_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "smooth_l1",
    "softmax",
    "softmax_backward",
    "upsample",
    "upsample_backward",
    "weighted_cross_entropy",
]
