"""What comes out: plain networks as configs, weights and ONNX, verified on the device."""
