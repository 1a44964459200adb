"""One YAML file per device model; ``collectors.profile`` reads them."""
