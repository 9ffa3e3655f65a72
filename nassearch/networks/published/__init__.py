"""Published supernets: how the tensors of their files are called, and what their authors say."""

PUBLISHED = {
    "ofa_mbv3_w10": "nassearch.networks.published.ofa_supernets:MOBILENET_V3_W10",
    "ofa_mbv3_w12": "nassearch.networks.published.ofa_supernets:MOBILENET_V3_W12",
    "ofa_proxyless_w13": "nassearch.networks.published.ofa_supernets:PROXYLESS_W13",
    "ofa_resnet50": "nassearch.networks.published.ofa_supernets:RESNET_50",
}
