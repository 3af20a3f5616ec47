"""What is served beside the proxied paths: the application, its pages and its API."""
