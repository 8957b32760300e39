"""Files: checked state of fitted estimators, and ONNX graphs."""
