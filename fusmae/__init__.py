"""Fus-MAE as a pipeline: raw archive → index → shards → pretraining → probe and finetune → ONNX → registry."""
