"""The same networks behind other servers, each as its own guide shows it; run in environments of their own."""
