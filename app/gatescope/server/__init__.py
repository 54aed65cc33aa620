"""The service: the HTTP application, the model repository, the scheduler and the page."""
