"""Architectures of timm, torchvision and segmentation_models.pytorch, a small one of each family, with the sites to be
found there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from whatwhere.errors import need

Library = Literal[
    "timm", "torchvision", "torchvision.detection", "torchvision.segmentation", "segmentation_models_pytorch"
]


@dataclass(frozen=True)
class Architecture:
    """One network of a family.

    Attributes:
        family: what the network is an example of.
        library: where it comes from.
        name: its name there; of a segmentation network with its encoder, as in ``Unet(resnet18)``.
        residual: how many residual branches it has, counted from its table of blocks.
        stage: how many ends of stages serve it besides.
        size: side of the images that it is tried on.
        options: of its constructor.
        decoder: glob over the modules of a decoder that get attention besides.
        module: how many of them there are.
    """

    family: str
    library: Library
    name: str
    residual: int = 0
    stage: int = 0
    size: int = 96
    options: Mapping[str, Any] = field(default_factory=dict)
    decoder: str = ""
    module: int = 0

    @property
    def at(self) -> list[str] | None:
        """What is chosen for ``at=``: the default, or the ends of the branches and parts of the decoder."""
        return ["residual", self.decoder] if self.decoder else None

    def build(self) -> nn.Module:
        """Make the network with random weights."""
        if self.library == "timm":
            model: nn.Module = need("timm", extra="train").create_model(self.name, pretrained=False, **self.options)
            return model
        if self.library == "segmentation_models_pytorch":
            kind, _, encoder = self.name.removesuffix(")").partition("(")
            segmentation = need(self.library, extra="dev")
            model = getattr(segmentation, kind)(encoder, encoder_weights=None, **self.options)
            return model
        models = need(f"torchvision.models{self.library.removeprefix('torchvision')}", extra="train")
        backbone = {} if self.library == "torchvision" else {"weights_backbone": None}
        model = getattr(models, self.name)(weights=None, **backbone, **self.options)
        return model


def _timm(family: str, name: str, residual: int = 0, stage: int = 0, size: int = 96) -> Architecture:
    return Architecture(family, "timm", name, residual, stage, size)


def _vision(family: str, name: str, residual: int = 0, stage: int = 0, size: int = 96, **options: Any) -> Architecture:
    return Architecture(family, "torchvision", name, residual, stage, size, options)


def _detect(family: str, name: str, residual: int = 0, stage: int = 0, size: int = 96, **options: Any) -> Architecture:
    resize = {} if name.startswith("ssd") else {"min_size": size, "max_size": size}
    return Architecture(family, "torchvision.detection", name, residual, stage, size, {**resize, **options})


def _segment(family: str, name: str, residual: int = 0, stage: int = 0, size: int = 96) -> Architecture:
    return Architecture(family, "torchvision.segmentation", name, residual, stage, size)


def _smp(
    name: str, residual: int = 0, stage: int = 0, decoder: str = "", module: int = 0, size: int = 96
) -> Architecture:
    family = name.partition("(")[0]
    return Architecture(
        f"{family} and its decoder" if decoder else family,
        "segmentation_models_pytorch",
        name,
        residual,
        stage,
        size,
        {"classes": 3},
        decoder,
        module,
    )


_NO_AUXILIARY = {"aux_logits": False, "init_weights": False}

ARCHITECTURES: tuple[Architecture, ...] = (
    _timm("ResNet", "resnet18", 8),
    _vision("ResNet", "resnet50", 16),
    _timm("ResNet-D", "resnet26d", 8),
    _timm("ResNet v2 (pre-activation)", "resnetv2_18", 8),
    _timm("ResNeXt", "resnext26ts", 8),
    _vision("ResNeXt", "resnext50_32x4d", 16),
    _vision("Wide ResNet", "wide_resnet50_2", 16),
    _timm("Res2Net", "res2net50_14w_8s", 16),
    _timm("ResNeSt", "resnest14d", 4),
    _timm("SE-ResNet", "seresnet18", 8),
    _timm("SE-ResNeXt", "seresnext26t_32x4d", 8),
    _timm("SENet (original)", "legacy_seresnet18", 8),
    _timm("ECA-ResNet", "ecaresnet26t", 8),
    _timm("SKNet", "skresnet18", 8),
    _timm("ResNet-RS", "resnetrs50", 16),
    _timm("BoTNet", "botnet26t_256", 8, size=256),
    _timm("TResNet", "tresnet_m", 21),
    _timm("GENet", "gernet_s", 14),
    _timm("RegNetX", "regnetx_002", 13),
    _timm("RegNetY", "regnety_002", 13),
    _vision("RegNetY", "regnet_y_400mf", 16),
    _timm("NFNet", "nfnet_l0", 12),
    _timm("DenseNet", "densenet121", stage=4),
    _vision("DenseNet", "densenet121", stage=4),
    _timm("VGG", "vgg11_bn", stage=3),
    _vision("VGG", "vgg16", stage=5),
    _timm("RepVGG", "repvgg_a0", stage=5),
    _timm("MobileOne", "mobileone_s0", stage=5),
    _vision("AlexNet", "alexnet", stage=1),
    _vision("SqueezeNet", "squeezenet1_1", stage=3),
    _vision("GoogLeNet", "googlenet", stage=4, **_NO_AUXILIARY),
    _timm("Inception v3", "inception_v3", stage=4, size=128),
    _vision("Inception v3", "inception_v3", stage=4, size=128, **_NO_AUXILIARY),
    _timm("Inception v4", "inception_v4", stage=4, size=128),
    _timm("Inception-ResNet v2", "inception_resnet_v2", 40, size=128),
    _timm("Xception", "legacy_xception", 12),
    _timm("Aligned Xception", "xception41", 12),
    _timm("MobileNet v1", "mobilenetv1_100", stage=5),
    _timm("MobileNet v2", "mobilenetv2_050", 10),
    _vision("MobileNet v2", "mobilenet_v2", 10),
    _timm("MobileNet v3", "mobilenetv3_small_100", 6),
    _vision("MobileNet v3", "mobilenet_v3_large", 10),
    _timm("MobileNet v4", "mobilenetv4_conv_small", 10),
    _timm("MobileNet v4, hybrid", "mobilenetv4_hybrid_medium", 27, size=128),
    _timm("EfficientNet", "efficientnet_b0", 9),
    _vision("EfficientNet", "efficientnet_b0", 9),
    _timm("EfficientNet v2", "efficientnetv2_rw_t", 34),
    _timm("EfficientNet Lite", "tf_efficientnet_lite0", 9),
    _timm("TinyNet", "tinynet_e", 3, 3),
    _timm("LCNet", "lcnet_050", stage=5),
    _timm("MNASNet", "mnasnet_small", 10),
    _vision("MNASNet", "mnasnet0_5", 10),
    _timm("Single-Path NAS", "spnasnet_100", 14),
    _timm("FBNet", "fbnetc_100", 15),
    _timm("FBNet v3", "fbnetv3_b", 23),
    _timm("HardCoRe-NAS", "hardcorenas_a", 5),
    _timm("MixNet", "mixnet_s", 11),
    _timm("ReXNet", "rexnet_100", 11),
    _timm("GhostNet", "ghostnet_050", 16),
    _timm("GhostNet v2", "ghostnetv2_100", 16),
    _timm("RepGhostNet", "repghostnet_050", 16),
    _vision("ShuffleNet v2", "shufflenet_v2_x0_5", stage=3),
    _timm("DarkNet", "darknet53", 23),
    _timm("CSP-DarkNet", "cspdarknet53", 23),
    _timm("CSP-ResNet", "cspresnet50", 13),
    _timm("CSP-DarkNet (C3)", "cs3darknet_s", 9),
    _timm("VoVNet", "ese_vovnet19b_dw", stage=5),
    _timm("VoVNet with identity", "ese_vovnet39b", 2, 3),
    _timm("HGNet v2", "hgnetv2_b0", 1, 3),
    _timm("SelecSLS", "selecsls42", stage=5),
    _timm("HRNet", "hrnet_w18_small", 23),
    _timm("DLA", "dla34", 12),
    _timm("DPN", "dpn48b", 16),
    _timm("ConvNeXt", "convnext_atto", 12),
    _vision("ConvNeXt", "convnext_tiny", 18),
    _timm("ConvNeXt, channels-last", "convnext_tiny", 18),
    _timm("ConvNeXt v2", "convnextv2_atto", 12),
    _timm("InceptionNeXt", "inception_next_atto", 12),
    _timm("ConvMixer", "convmixer_768_32", 32, size=64),
    _timm("FasterNet", "fasternet_t0", 13),
    _timm("StarNet", "starnet_s050", 6),
    _timm("RepViT", "repvit_m0_9", 26),
    _timm("FastViT", "fastvit_t8", 20),
    _timm("EdgeNeXt", "edgenext_xx_small", 12),
    _timm("PoolFormer", "poolformer_s12", 12),
    _timm("EfficientFormer", "efficientformer_l1", 14, size=224),
    _timm("EfficientViT (MIT)", "efficientvit_b0", 11),
    _timm("MobileViT", "mobilevit_xxs", 3, 3, size=128),
    _timm("MobileViT v2", "mobilevitv2_050", 1, 4, size=256),
    _timm("PVT v2", "pvt_v2_b0", stage=4),
    _timm("CoAtNet", "coatnet_nano_rw_224", 25, size=224),
    _timm("MaxViT", "maxvit_pico_rw_256", 11, size=256),
    _detect("Faster R-CNN", "fasterrcnn_resnet50_fpn", 16),
    _detect("Faster R-CNN, MobileNet", "fasterrcnn_mobilenet_v3_large_fpn", 10),
    _detect("RetinaNet", "retinanet_resnet50_fpn", 16),
    _detect("FCOS", "fcos_resnet50_fpn", 16),
    _detect("SSD", "ssd300_vgg16", stage=4, size=300),
    _detect("SSDlite", "ssdlite320_mobilenet_v3_large", 10, size=320),
    _segment("FCN", "fcn_resnet50", 16),
    _segment("DeepLab v3", "deeplabv3_mobilenet_v3_large", 10),
    _segment("LR-ASPP", "lraspp_mobilenet_v3_large", 10),
    _smp("Unet(resnet18)", 8),
    _smp("Unet(resnet34)", 16, decoder="decoder.blocks.?", module=5),
    _smp("Unet(mobilenet_v2)", 10),
    _smp("Unet(efficientnet-b0)", 9),
    _smp("Unet(se_resnet50)", 16),
    _smp("Unet(tu-convnext_atto)", 12),
    _smp("Unet(vgg11_bn)", stage=9),
    _smp("Unet(densenet121)", stage=9),
    _smp("UnetPlusPlus(resnet18)", 8),
    _smp("MAnet(resnet18)", 8),
    _smp("Linknet(resnet34)", 16, decoder="decoder.blocks.?", module=5),
    _smp("FPN(resnet34)", 16, decoder="decoder.seg_blocks.?", module=4),
    _smp("PSPNet(resnet18)", 4),
    _smp("PAN(resnet18)", 11, size=256),
    _smp("DeepLabV3(resnet18)", 8),
    _smp("DeepLabV3Plus(resnet18)", 8),
    _smp("UPerNet(resnet18)", 8),
    _smp("Segformer(resnet18)", 8),
)
