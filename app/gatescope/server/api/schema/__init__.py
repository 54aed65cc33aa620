"""The wire's types: what requests may say and what replies look like."""
