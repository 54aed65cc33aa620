"""The Open Inference Protocol, `/v2`, as clients of Triton and KServe speak it."""
