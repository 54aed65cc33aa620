"""ONNX graphs: read as data, run by ONNX Runtime, their LSTM, GRU and RNN nodes traced."""
