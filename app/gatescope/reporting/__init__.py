"""Reports: what stands out inside a model, in sentences with their figures, tested by interventions."""
